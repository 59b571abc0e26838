"""Names that users choose by.

They lie apart from what they name, which imports torch: the help of a command must come at once.
"""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16", "auto")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}  # of matrix products in training
REPOSITORY = "shi-labs/versatile-diffusion"  # on the Hugging Face Hub
OFFICIAL_SPACINGS = ("official", "quadratic", "sgm_uniform")  # they end at timestep 0
DIFFUSERS_SPACINGS = ("leading", "trailing", "linspace", "karras", "karras leading", "karras trailing")
SPACINGS = OFFICIAL_SPACINGS + DIFFUSERS_SPACINGS
# The tasks of bulk jobs, and what their rows are.
TASKS = {
    "caption": "picture",
    "variation": "picture",
    "text-to-image": "text",
    "embed": "picture",
    "embed-text": "text",
}
METHODS = ("ddgan", "lcm")  # of distillation: an adversary, or consistency

# The flows (output kind, condition kind) of the paper's recipe (section 4): first image variation, then text
# to image beside it, then all.
RECIPES: dict[str, tuple[tuple[str, str], ...]] = {
    "single": (("image", "image"),),
    "dual": (("image", "image"), ("image", "text")),
    "four": (("image", "image"), ("image", "text"), ("text", "image"), ("text", "text")),
}
FLOWS = {f"{kind}_to_{data}": (data, kind) for data, kind in RECIPES["four"]}
