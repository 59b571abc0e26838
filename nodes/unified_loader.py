"""One loader for a whole model: of its parts only those are read that a wire leads to."""

from __future__ import annotations

from ..vd_core.config import recommend_settings
from .choices import EMBEDDED, choice
from .host import host
from .loaders import DTYPE_INPUT, SEARCH_ALIASES, check_file


class VD_Load:
    """Load a whole Versatile Diffusion."""

    CATEGORY = "VersatileDiffusion/loaders"
    DESCRIPTION = (
        "Loads Versatile Diffusion: all its parts from one file. Only parts with a wire are read. size, "
        "steps and cfg are those that the model works best with: connect them, and the graph fits whichever "
        "model is chosen."
    )
    SEARCH_ALIASES = [
        *SEARCH_ALIASES,
        "load versatile diffusion",
        "image variation",
        "caption",
        "unified loader",
    ]
    RETURN_TYPES = ("MODEL", "MODEL", "CLIP", "CLIP_VISION", "VAE", "VD_TEXT_VAE", "INT", "INT", "FLOAT")
    RETURN_NAMES = (
        "image_model",
        "text_model",
        "clip",
        "clip_vision",
        "vae",
        "text_vae",
        "size",
        "steps",
        "cfg",
    )
    OUTPUT_TOOLTIPS = (
        "Makes pictures, from text, pictures or both; for any sampler.",
        "Makes texts, from text, pictures or both; for any sampler, on text latents.",
        "Reads prompts; for Text Context (VD).",
        "Looks at pictures; for Image Context (VD).",
        "Turns image latents into pictures and back; for VAE Decode and VAE Encode.",
        "Turns text latents into sentences and back; for the text nodes of this pack.",
        "Width and height of the pictures that the model was trained on; for Empty Latent Image.",
        "Steps for a sampler.",
        "Guidance scale for a sampler.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "embedded is a small model of emoji that comes with this pack. Files of the real one belong in "
            "models/versatile_diffusion; its VAE, CLIP and text autoencoder are found there by their "
            "published names."
        )
        return {
            "required": {"model": choice([EMBEDDED, *host.diffuser_names()], EMBEDDED, tooltip)},
            "optional": {"weight_dtype": DTYPE_INPUT},  # workflows of the first release do not have it
            # "0,2": the outputs that have a wire; both hosts fill it in, and so a new wire means a new
            # result.
            "hidden": {"wired": "WIRED_OUTPUTS"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("model")], "model")

    def execute(self, model, weight_dtype="default", wired=None):
        # It brings transformers, and ComfyUI shall start fast.
        from ..vd_core.checkpoints.load import open_checkpoints

        path = host.find(model, "model")
        loads = (
            lambda: host.load_flow(path, "image", "all", weight_dtype),
            lambda: host.load_flow(path, "text", "all", weight_dtype),
            lambda: host.load_clip(host.find_part(path, "clip_text", "clip")),
            lambda: host.load_clip_vision(host.find_part(path, "clip_vision", "clip_vision")),
            lambda: host.load_image_vae(host.find_part(path, "image_vae", "vae")),
            lambda: host.load_text_vae(host.find_part(path, "text_vae", "text_vae")),
        )
        slots = range(len(loads)) if wired is None else [int(slot) for slot in wired.split(",") if slot]
        parts = [load() if slot in slots else None for slot, load in enumerate(loads)]
        return (*parts, *recommend_settings(open_checkpoints(path)[1]))
