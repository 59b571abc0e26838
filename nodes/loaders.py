"""Loader nodes: one per socket pair, so that only what a graph needs is read."""

from ..vd_core.foreign import printable
from .choices import CONTEXTS, EMBEDDED, FROM_MODEL, WEIGHT_DTYPES, choice
from .host import host

CATEGORY = "VersatileDiffusion/loaders"
SEARCH_ALIASES = ["versatile diffusion", "vd loader", "checkpoint", "four flow"]


def describe_model_input(names: list[str], what: str) -> tuple:
    """Describe the input that chooses a model file, among `names`."""
    tooltip = (
        f"Where {what} is read from: a file in models/versatile_diffusion, or where such files usually lie. "
        "“embedded” is a small model of emoji that comes with this pack."
    )
    return choice([EMBEDDED, *names], EMBEDDED, tooltip)


def check_file(name: object, names: list[str], role: str) -> bool | str:
    """Accept a file of a list before a graph runs; for another, say where it was searched for and where it is
    published.

    name: None where the input has a wire.

    Without this ComfyUI would only say that the value is not in the list.
    """
    if name is None or name in names:
        return True
    if not isinstance(name, str):  # a workflow file may hold anything
        return f"{printable(repr(name))} is not the name of a file: choose one of the list."
    try:
        host.find(name, role)
    except FileNotFoundError as error:
        return str(error)
    return f"{printable(name)} is not in the list of this loader: refresh it, or choose a file of it."


def describe_contexts_input(output: str) -> tuple:
    """Describe the input that chooses context layers."""
    tooltip = f"What {output} can be made from. Layers that are not wanted are not read, which saves memory."
    return choice(CONTEXTS, "all", tooltip)


DTYPE_INPUT = (
    list(WEIGHT_DTYPES),
    {
        "default": "default",
        "tooltip": "How weights are kept in memory: default suits your device, fp8 needs the least, auto is "
        "fastest on a CPU.",
        "advanced": True,
    },
)


class VD_LoadImageModel:
    """Load what makes pictures."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the part of Versatile Diffusion that makes pictures, as a MODEL for any sampler, and its VAE."
    )
    SEARCH_ALIASES = [*SEARCH_ALIASES, "unet", "text to image", "image variation"]
    RETURN_TYPES = ("MODEL", "VAE")
    RETURN_NAMES = ("image_model", "vae")
    OUTPUT_TOOLTIPS = (
        "Makes pictures, from text, pictures or both; for any sampler.",
        "Turns image latents into pictures and back; for VAE Decode and VAE Encode.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "The image autoencoder: in the model file itself, or kl-f8.pth or any VAE file of Stable "
            "Diffusion 1."
        )
        return {
            "required": {
                "model": describe_model_input(host.diffuser_names(), "the model"),
                "vae": choice([FROM_MODEL, *host.file_names("vae")], FROM_MODEL, tooltip),
                "contexts": describe_contexts_input("a picture"),
                "weight_dtype": DTYPE_INPUT,
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("model")], "model")

    def execute(self, model, vae, contexts, weight_dtype):
        path = host.find(model, "model")
        vae_path = path if vae == FROM_MODEL else host.find(vae, "vae")
        return host.load_flow(path, "image", contexts, weight_dtype), host.load_image_vae(vae_path)


class VD_LoadTextModel:
    """Load what makes texts."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the part of Versatile Diffusion that makes texts, as a MODEL for any sampler, and its text "
        "autoencoder."
    )
    SEARCH_ALIASES = [*SEARCH_ALIASES, "optimus", "caption", "image to text"]
    RETURN_TYPES = ("MODEL", "VD_TEXT_VAE")
    RETURN_NAMES = ("text_model", "text_vae")
    OUTPUT_TOOLTIPS = (
        "Makes texts, from text, pictures or both; for any sampler, on text latents.",
        "Turns text latents into sentences and back; for the text nodes of this pack.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "The text autoencoder: in the model file itself, or optimus-vae.pth with its vocabularies beside "
            "it."
        )
        return {
            "required": {
                "model": describe_model_input(host.diffuser_names(), "the model"),
                "text_vae": choice([FROM_MODEL, *host.file_names("text_vae")], FROM_MODEL, tooltip),
                "contexts": describe_contexts_input("a text"),
                "weight_dtype": DTYPE_INPUT,
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("model")], "model")

    def execute(self, model, text_vae, contexts, weight_dtype):
        path = host.find(model, "model")
        vae_path = path if text_vae == FROM_MODEL else host.find(text_vae, "text_vae")
        return host.load_flow(path, "text", contexts, weight_dtype), host.load_text_vae(vae_path)


class VD_LoadClip:
    """Load what reads prompts."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads the half of CLIP that reads prompts, with its projection, which CLIPs from Stable Diffusion "
        "checkpoints lack."
    )
    SEARCH_ALIASES = [*SEARCH_ALIASES, "text encoder"]
    RETURN_TYPES = ("CLIP",)
    OUTPUT_TOOLTIPS = ("Reads prompts; for Text Context (VD).",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": describe_model_input(host.file_names("clip"), "CLIP's text tower")}}

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("clip")], "clip")

    def execute(self, model):
        return (host.load_clip(host.find(model, "clip")),)


class VD_LoadClipVision:
    """Load what looks at pictures."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Loads the half of CLIP that looks at pictures, with its projection."
    SEARCH_ALIASES = [*SEARCH_ALIASES, "clip vision", "image encoder"]
    RETURN_TYPES = ("CLIP_VISION",)
    OUTPUT_TOOLTIPS = ("Looks at pictures; for Image Context (VD).",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": describe_model_input(host.file_names("clip_vision"), "CLIP's vision tower")}
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("clip_vision")], "clip_vision")

    def execute(self, model):
        return (host.load_clip_vision(host.find(model, "clip_vision")),)
