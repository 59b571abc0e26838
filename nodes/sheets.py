"""Lay pictures side by side."""

from ..vd_core.sheet import draw_sheet
from .choices import long_text
from .images import to_rgb

MOST_LETTERS = 10_000  # each is measured to fit its column


class VD_Sheet:
    """Pictures side by side with labels."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Puts a batch of pictures on one sheet, with a label under each and a title: to compare steps, seeds "
        "and settings at a glance."
    )
    SEARCH_ALIASES = ["grid", "contact sheet", "xy plot", "labels", "image grid", "compare"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The sheet, one picture.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures, in rows from left to right."}),
                "columns": (
                    "INT",
                    {"default": 4, "min": 1, "max": 64, "tooltip": "How many pictures stand in a row."},
                ),
                "labels": long_text("What stands under the pictures: one line each, in Latin letters."),
                "title": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "What stands above, in Latin letters; nothing if it is empty.",
                    },
                ),
            }
        }

    def execute(self, image, columns, labels, title):
        if len(labels) + len(title) > MOST_LETTERS:
            raise ValueError(
                f"labels and title have {len(labels) + len(title)} letters; a sheet takes {MOST_LETTERS}."
            )
        return (draw_sheet(to_rgb(image), columns, labels.rstrip().splitlines(), title).movedim(1, -1),)
