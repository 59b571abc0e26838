"""LoRA files, in the names of all common programs."""

from ..vd_core.foreign import printable
from .choices import number, socket
from .host import host
from .loaders import CATEGORY


class VD_LoadLora:
    """Change a model, and CLIP, by a LoRA file."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Changes a model, and CLIP, by a LoRA: one of this pack's own training, or for Stable Diffusion 1 in "
        "the names of kohya, PEFT or diffusers, which ComfyUI's own loader reads in part only. Several in a "
        "row add up."
    )
    SEARCH_ALIASES = ["lora", "load lora", "lora loader", "peft", "kohya", "lycoris"]
    RETURN_TYPES = ("MODEL", "CLIP")
    OUTPUT_TOOLTIPS = (
        "The same model with the LoRA, for any sampler.",
        "The same CLIP with the LoRA's part for the text encoder; nothing without clip.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "How strongly it is applied: 0 changes nothing, negative numbers subtract it."
        return {
            "required": {
                "model": socket("MODEL", "image_model or text_model."),
                "lora": (host.file_names("lora"), {"tooltip": "A file in models/loras."}),
                "strength": number(1.0, -100.0, 100.0, 0.01, tooltip),
            },
            "optional": {"clip": socket("CLIP", "For LoRAs that change the text encoder too.")},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, lora):
        if lora is None or lora in host.file_names("lora"):
            return True
        name = printable(repr(lora))
        return f"There is no LoRA {name}: put its file into models/loras, or choose one of the list."

    def execute(self, model, lora, strength, clip=None):
        return host.load_lora(model, clip, host.find(lora, "lora"), strength)
