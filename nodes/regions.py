"""Nodes that say where, when and how strongly a context acts."""

import torch

from ..vd_core.context import Region
from .choices import number, share, socket
from .conditioning import Part, change_contexts
from .images import to_masks

BOX_SIDE = 512  # of the mask that a box becomes, in cells


class VD_Region:
    """Where and when a context acts."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Says where in the picture and when a context acts. Blend it with others then: where only one acts "
        "it acts alone, where several do they share by their ratios, and where none does all of them act."
    )
    SEARCH_ALIASES = [
        "regional prompt",
        "area",
        "mask conditioning",
        "gligen",
        "attention mask",
        "timestep range",
    ]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to move towards.", "What to move away from. Wire it together with positive.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": socket("CONDITIONING", "positive of a context."),
                "negative": socket("CONDITIONING", "negative of the same context."),
                "x": share(0.0, "Left edge of the box, as a share of the picture's width."),
                "y": share(0.0, "Upper edge of the box, as a share of the picture's height."),
                "width": share(1.0, "Width of the box, as a share of the picture's."),
                "height": share(1.0, "Height of the box, as a share of the picture's."),
                "start": share(0.0, "When it starts acting: 0 is the first step, from noise."),
                "end": share(1.0, "When it stops acting: 1 is the last step, at the picture."),
            },
            "optional": {
                "mask": socket(
                    "MASK", "Where it acts within the box: white fully, grey partly, black not at all."
                )
            },
        }

    def execute(self, positive, negative, x, y, width, height, start, end, mask=None):
        region = Region(limit_to_box(mask, x, y, width, height), start, end)

        def place(part: Part) -> Part:
            if part.region:
                raise ValueError(
                    "This context has a region already: give it one, with a mask where a box does not do."
                )
            return part._replace(region=region)

        return change_contexts(positive, place, "A region"), change_contexts(negative, place, "A region")


def limit_to_box(
    mask: torch.Tensor | None, x: float, y: float, width: float, height: float
) -> torch.Tensor | None:
    """Limit MASK [B, h, w] to a box: [B, 1, h, w]; None where both are the whole picture. Raises ValueError
    for an empty box."""
    if mask is None and (x, y, width, height) == (0, 0, 1, 1):
        return None
    whole = torch.ones(1, 1, BOX_SIDE, BOX_SIDE) if mask is None else to_masks(mask)
    rows, columns = whole.shape[2:]
    top, bottom = (round(edge * rows) for edge in (y, y + height))
    left, right = (round(edge * columns) for edge in (x, x + width))
    if top >= min(bottom, rows) or left >= min(right, columns):
        raise ValueError(
            f"The box of a region must hold some of the picture, got x {x}, y {y}, width {width}, height "
            f"{height}."
        )
    inside = torch.zeros_like(whole)
    inside[..., top:bottom, left:right] = whole[..., top:bottom, left:right]
    return inside


class VD_ContextGuidance:
    """How strongly a context guides."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Says how strongly one context of a blend guides: its guidance scale is the sampler's cfg times "
        "this. Each context that differs from the one before it costs one evaluation more per step."
    )
    SEARCH_ALIASES = ["dual cfg", "cfg per context", "guidance scale", "instruct pix2pix"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("What to move towards.", "What to move away from. Wire it together with positive.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "Times the sampler's cfg: 0 uses the unconditional tokens instead, 1 changes nothing, 2 guides "
            "twice as much."
        )
        return {
            "required": {
                "positive": socket("CONDITIONING", "positive of a context."),
                "negative": socket("CONDITIONING", "negative of the same context."),
                "guidance": number(1.0, 0.0, 10.0, 0.05, tooltip),
            }
        }

    def execute(self, positive, negative, guidance):
        def guide(part: Part) -> Part:
            return part._replace(guidance=part.guidance * guidance)

        return change_contexts(positive, guide, "A guidance"), change_contexts(negative, guide, "A guidance")
