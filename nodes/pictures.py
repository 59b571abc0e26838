"""Nodes for finished pictures."""

from ..vd_core.color import match_color


class VD_ColorAdjust:
    """The colours of a reference."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = "Gives pictures the colours of a reference: mean and spread per channel, the official app's “Simple” adjustment."
    SEARCH_ALIASES = ["color match", "color transfer", "colour adjust"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The pictures in the reference's colours.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures to adjust."}),
                "reference": ("IMAGE", {"tooltip": "Where the colours come from: one picture, or one for each."}),
            }
        }

    def execute(self, image, reference):
        pictures, wanted = (x[..., :3].movedim(-1, 1) for x in (image, reference))
        return (match_color(pictures, wanted).movedim(1, -1),)
