"""What several nodes share: choices, as they are saved in workflow files, inputs, and the example files."""

from collections.abc import Iterable
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


def socket(kind: str, tooltip: str) -> tuple[str, dict]:
    """Describe an input that takes a wire of a kind."""
    return kind, {"tooltip": tooltip}


def number(default: float, low: float, high: float, step: float, tooltip: str) -> tuple[str, dict]:
    """Describe a number from low to high."""
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip}


def share(default: float, tooltip: str) -> tuple[str, dict]:
    """Describe a number from 0 to 1, in hundredths."""
    return number(default, 0.0, 1.0, 0.01, tooltip)


def multiplier(tooltip: str) -> tuple[str, dict]:
    """Describe a number from 0 to 2 that changes nothing at 1."""
    return number(1.0, 0.0, 2.0, 0.01, tooltip)


def guidance_scale(default: float, tooltip: str) -> tuple[str, dict]:
    """Describe the guidance scale cfg."""
    return number(default, 0.0, 100.0, 0.1, tooltip)


def whole(default: int, low: int, high: int, tooltip: str, step: int = 1) -> tuple[str, dict]:
    """Describe a whole number from low to high."""
    steps = {"step": step} if step > 1 else {}
    return "INT", {"default": default, "min": low, "max": high, **steps, "tooltip": tooltip}


def steps(tooltip: str) -> tuple[str, dict]:
    """Describe a number of sampling steps."""
    return whole(50, 1, 1000, tooltip)


def choice(options: Iterable[str], default: str, tooltip: str) -> tuple[list[str], dict]:
    """Describe a choice of one option."""
    return list(options), {"default": default, "tooltip": tooltip}


def switch(default: bool, tooltip: str) -> tuple[str, dict]:
    """Describe a yes or no."""
    return "BOOLEAN", {"default": default, "tooltip": tooltip}


def line(default: str, tooltip: str) -> tuple[str, dict]:
    """Describe a text of one line."""
    return "STRING", {"default": default, "tooltip": tooltip}


def seed(tooltip: str) -> tuple[str, dict]:
    """Describe a seed, with the widget that changes it after each run."""
    limits = {"default": 0, "min": 0, "max": 2**64 - 1}
    return "INT", {**limits, "control_after_generate": True, "tooltip": tooltip}


def long_text(tooltip: str) -> tuple[str, dict]:
    """Describe a text of several lines, empty at first."""
    return "STRING", {"default": "", "multiline": True, "tooltip": tooltip}


CLIP = socket(
    "CLIP", "From Load Versatile Diffusion or Load CLIP (VD), or ComfyUI's Load CLIP with CLIP ViT-L/14."
)
CLIP_VISION = socket(
    "CLIP_VISION",
    "From Load Versatile Diffusion or Load CLIP Vision (VD), or ComfyUI's own with CLIP ViT-L/14.",
)
