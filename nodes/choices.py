"""What several nodes share: choices, as they are saved in workflow files, inputs, and the example files."""

from pathlib import Path

# pictures and contexts of the workflows
EXAMPLES = Path(__file__).resolve().parents[1] / "workflows" / "input"

EMBEDDED = "embedded"  # the small model that comes with the pack
FROM_MODEL = "from the model file"
CONTEXTS = ("all", "text", "image")
WEIGHT_DTYPES = {
    "default": None,
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "auto": None,  # on a CPU what it is fastest with, elsewhere as default
}

CLIP = (
    "CLIP",
    {
        "tooltip": "From Load Versatile Diffusion or Load CLIP (VD), or ComfyUI's Load CLIP with CLIP "
        "ViT-L/14."
    },
)
CLIP_VISION = (
    "CLIP_VISION",
    {
        "tooltip": "From Load Versatile Diffusion or Load CLIP Vision (VD), or ComfyUI's own with CLIP "
        "ViT-L/14."
    },
)


def share(default: float, tooltip: str) -> tuple[str, dict]:
    """Describe an input from 0 to 1, in hundredths."""
    return "FLOAT", {"default": default, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": tooltip}


def steps(tooltip: str) -> tuple[str, dict]:
    """Describe a number of sampling steps."""
    return "INT", {"default": 50, "min": 1, "max": 1000, "tooltip": tooltip}


def guidance_scale(default: float, tooltip: str) -> tuple[str, dict]:
    """Describe the guidance scale cfg."""
    return "FLOAT", {"default": default, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": tooltip}


def seed(tooltip: str) -> tuple[str, dict]:
    """Describe a seed, with the widget that changes it after each run."""
    limits = {"default": 0, "min": 0, "max": 2**64 - 1}
    return "INT", {**limits, "control_after_generate": True, "tooltip": tooltip}


def long_text(tooltip: str) -> tuple[str, dict]:
    """Describe a text of several lines, empty at first."""
    return "STRING", {"default": "", "multiline": True, "tooltip": tooltip}
