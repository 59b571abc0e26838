"""Example pictures: the emoji that the embedded model was trained on and is measured with."""

from functools import cache

import torch
from torch import Tensor

from ..vd_core.embedded import FOLDER
from ..vd_core.training.dataset import CaptionedPictures
from .choices import choice

MASKS = ("background", "thing", "right half", "lower half")
WHITE = 250 / 255  # the pictures stand on white; what is darker than this belongs to the thing


@cache
def read_examples() -> CaptionedPictures:
    """Read the sheet of pictures that comes with the pack, once."""
    return CaptionedPictures.load(FOLDER)


class VD_ExamplePicture:
    """An emoji to try the pack with."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "One of the 1,279 emoji that the embedded model knows, so that every template runs at once. To use a "
        "picture of your own, connect a Load Image node in its place."
    )
    SEARCH_ALIASES = ["example", "sample picture", "test image", "emoji", "versatile diffusion example"]
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = ("The picture, 64x64, on white.", "What `masked` names is 1, the rest is 0.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        examples = read_examples()
        return {
            "required": {
                "name": choice(examples.names, "strawberry", "What the picture shows."),
                "style": choice(examples.styles, "noto", "The style that it is drawn in."),
                "masked": choice(MASKS, "background", "What the mask covers."),
            }
        }

    def execute(self, name, style, masked):
        examples = read_examples()
        caption = (examples.name == examples.names.index(name)) & (
            examples.style == examples.styles.index(style)
        )
        if not caption.any():
            raise ValueError(
                f"There is no {name} in the {style} style among the examples: choose another style."
            )
        picture = examples.pixels[caption.nonzero()[0, 0]].movedim(0, -1)[None].contiguous()
        return picture, make_mask(picture, masked)


def make_mask(picture: Tensor, masked: str) -> Tensor:
    """Cover one of `MASKS` of a picture [1, H, W, 3] on white: MASK [1, H, W] with 1 where it is covered."""
    mask = torch.zeros(picture.shape[:3])
    height, width = mask.shape[1:]
    if masked == "right half":
        mask[:, :, width // 2 :] = 1
    elif masked == "lower half":
        mask[:, height // 2 :] = 1
    else:
        is_thing = (picture < WHITE).any(dim=-1)
        mask[is_thing if masked == "thing" else ~is_thing] = 1
    return mask
