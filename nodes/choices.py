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
