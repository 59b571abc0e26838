"""Loader nodes."""

from .host import host


class VD_Load:
    """Load a Versatile Diffusion model."""

    CATEGORY = "VersatileDiffusion/loaders"
    DESCRIPTION = (
        "Loads Versatile Diffusion. Every part is read from the file when it is first used, so leave unconnected what you do not need."
    )
    SEARCH_ALIASES = ["versatile diffusion", "vd loader", "checkpoint", "four flow"]
    RETURN_TYPES = ("MODEL", "MODEL", "CLIP", "CLIP_VISION", "VAE", "VD_TEXT_VAE")
    RETURN_NAMES = ("image_model", "text_model", "clip", "clip_vision", "vae", "text_vae")
    OUTPUT_TOOLTIPS = (
        "Makes pictures, from text, pictures or both.",
        "Makes texts, from text, pictures or both.",
        "Reads prompts.",
        "Looks at pictures.",
        "Turns image latents into pictures and back.",
        "Turns text latents into sentences and back.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "“embedded” is a small model of emoji that comes with this pack; others lie in the models folder."
        return {"required": {"model": (host.model_names(), {"tooltip": tooltip})}}

    def execute(self, model):
        return host.load_model(model)
