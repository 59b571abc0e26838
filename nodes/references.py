"""Nodes of Prompt-Free Diffusion: a reference picture in place of a prompt."""

import torch

from ..vd_core.context import Context
from .choices import EMBEDDED, choice, multiplier, socket, switch, whole
from .conditioning import Conditioning, to_conditioning
from .host import host
from .images import limit_side, paint_masked, to_rgb
from .loaders import check_file

CATEGORY = "VersatileDiffusion/seecoder"


class SeeCoder_Load:
    """Load a SeeCoder."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads SeeCoder, the encoder of Prompt-Free Diffusion: SeeCoder, SeeCoder-PA and SeeCoder-Anime are "
        "recognised by their keys."
    )
    SEARCH_ALIASES = ["prompt free diffusion", "pfd", "reference encoder", "image prompt"]
    RETURN_TYPES = ("SEECODER",)
    OUTPUT_TOOLTIPS = ("Turns reference pictures into conditioning.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "“embedded” fits the pack's own small model; files of models/seecoder fit every model of Stable "
            "Diffusion 1."
        )
        return {"required": {"model": choice([EMBEDDED, *host.file_names("seecoder")], EMBEDDED, tooltip)}}

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, [EMBEDDED, *host.file_names("seecoder")], "seecoder")

    def execute(self, model):
        return (host.load_seecoder(host.find(model, "seecoder")),)


class SeeCoder_Encode:
    """Encode a reference picture as conditioning."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns a reference picture into conditioning that takes the place of a prompt: for any model of "
        "Stable Diffusion 1, or as a text context for Versatile Diffusion. Use a cfg of about 2 (1.5 to "
        "2.5); the 7 of prompts is far too much."
    )
    SEARCH_ALIASES = [
        "prompt free diffusion",
        "pfd",
        "reference",
        "image prompt",
        "ipadapter",
        "style transfer",
    ]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = (
        "What to move towards.",
        "What to move away from, with as many tokens. Use a cfg of about 2.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seecoder": socket("SEECODER", "From Load SeeCoder."),
                "image": socket(
                    "IMAGE",
                    "The reference. A batch, such as the frames of a film, conditions a batch of latents, "
                    "one by one.",
                ),
                "global_weight": multiplier("Scales the first tokens, which hold the picture as a whole."),
                "local_weight": multiplier("Scales the other tokens, which hold its parts."),
                "strength": multiplier("From negative (0) to the reference (1) and beyond."),
                "longest_side": whole(
                    1024, 0, 8192, "Larger pictures are scaled down to this; 0 never does.", step=8
                ),
                "crop": switch(False, "Cut the picture to what the mask leaves of it."),
            },
            "optional": {
                "mask": socket(
                    "MASK", "What is painted (white) is left out: it gets the mean colour of the rest."
                ),
                "unconditional": socket(
                    "CONDITIONING",
                    "What negative holds, filled up with zeros; else zeros alone. SeeCoder-Anime wants "
                    "anime_ug.pth.",
                ),
                "model": socket(
                    "MODEL", "Connect the model to learn at once whether it can read these tokens."
                ),
            },
        }

    def execute(
        self,
        seecoder,
        image,
        global_weight,
        local_weight,
        strength,
        longest_side,
        crop,
        mask=None,
        unconditional=None,
        model=None,
    ):
        pictures = to_rgb(image)
        pictures = pictures if mask is None else paint_masked(pictures, mask, crop)
        tokens = seecoder.encode(limit_side(pictures, longest_side))
        if model is not None:
            host.check_width(model, tokens.shape[2])
        null = expand_unconditional(unconditional, tokens)
        weights = tokens.new_full((tokens.shape[1], 1), local_weight)
        weights[: seecoder.global_tokens] = global_weight
        return to_conditioning([Context("text", null + strength * (weights * tokens - null), null)])


def expand_unconditional(unconditional: Conditioning | None, tokens: torch.Tensor) -> torch.Tensor:
    """Bring the unconditional tokens into the shape of one sample of tokens [B, n, d].

    Quirk kept: the official app fills 77 tokens up with zeros, and these zeros take part in the attention.
    """
    null = torch.zeros_like(tokens[:1])
    if unconditional is None:
        return null
    given = unconditional[0][0][:1].to(null)
    if given.shape[1] > null.shape[1] or given.shape[2] != null.shape[2]:
        raise ValueError(
            f"unconditional has tokens {list(given.shape[1:])}, more or wider than SeeCoder's "
            f"{list(null.shape[1:])}."
        )
    null[:, : given.shape[1]] = given
    return null


class PFD_LoadDiffuser:
    """Load a diffuser of Prompt-Free Diffusion."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads a diffuser file of Prompt-Free Diffusion as the Stable Diffusion 1 model that it is. Any "
        "checkpoint of Stable Diffusion 1.5, loaded with ComfyUI's own nodes, does as well."
    )
    SEARCH_ALIASES = ["prompt free diffusion", "pfd", "unet loader"]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("A model of Stable Diffusion 1; load its VAE with Load VAE.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        names = host.file_names("pfd")
        return {
            "required": {
                "model": (
                    names,
                    {"tooltip": "A file with diffuser.image.… keys, from diffusion_models or checkpoints."},
                )
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model):
        return check_file(model, host.file_names("pfd"), "pfd")

    def execute(self, model):
        return (host.load_pfd(host.find(model, "pfd")),)
