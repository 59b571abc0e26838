"""Try several values of an input, and lay the pictures side by side."""

import re
from math import isfinite

import torch
from torch import Tensor

from ..vd_core.sheet import draw_sheet
from .choices import line, long_text, socket, whole
from .images import to_rgb

MOST_LETTERS = 10_000  # each is measured to fit its column
MOST_VALUES = 64


class VD_Sweep:
    """Several values for one input."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Runs what follows once for each value: connect `values` to the focus of a picture, the ratio of a "
        "blend, a cfg or any other number with a point, and see the results in a row on a Sheet with Labels "
        "(VD)."
    )
    SEARCH_ALIASES = ["xy plot", "grid", "compare", "list of values", "focus", "blend ratio", "for each"]
    RETURN_TYPES = ("FLOAT", "STRING")
    RETURN_NAMES = ("values", "labels")
    OUTPUT_TOOLTIPS = (
        "The values, one after the other.",
        "The same, one per line: labels for Sheet with Labels (VD).",
    )
    OUTPUT_IS_LIST = (True, False)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = f"Up to {MOST_VALUES} numbers with spaces between."
        return {"required": {"values": line("0 0.25 0.5 0.75 1", tooltip)}}

    def execute(self, values):
        numbers = read_numbers(values)
        return numbers, "\n".join(f"{number:g}" for number in numbers)


def read_numbers(text: str) -> list[float]:
    """Read numbers with spaces, or commas and spaces, between. Raises ValueError for none, too many and other
    words, 0,5 among them."""
    words = re.sub(r",(\s|$)", " ", text).split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= MOST_VALUES or not all(map(isfinite, numbers)):
        raise ValueError(
            f"values are 1 to {MOST_VALUES} numbers with spaces between, such as 0 0.5 1, got {text[:60]!r}."
        )
    return numbers


class VD_Sheet:
    """Pictures side by side with labels."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Puts a batch or a list of pictures on one sheet, with a label under each and a title: to compare "
        "steps, seeds and settings at a glance."
    )
    SEARCH_ALIASES = ["grid", "contact sheet", "xy plot", "labels", "image grid", "compare"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The sheet, one picture.",)
    INPUT_IS_LIST = True
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": socket("IMAGE", "The pictures, in rows from left to right."),
                "columns": whole(4, 1, 64, "How many pictures stand in a row."),
                "labels": long_text("What stands under the pictures: one line each, in Latin letters."),
                "title": line("", "What stands above, in Latin letters; nothing if it is empty."),
            }
        }

    def execute(self, image, columns, labels, title):
        lines, heading = "\n".join(labels).rstrip(), title[0]
        if len(lines) + len(heading) > MOST_LETTERS:
            raise ValueError(
                f"labels and title have {len(lines) + len(heading)} letters; a sheet takes {MOST_LETTERS}."
            )
        names = lines.splitlines()
        if len(names) == len(image) > 1:  # one for each batch of a list stands under all of its pictures
            names = [name for name, batch in zip(names, image, strict=True) for _ in batch]
        pictures = draw_sheet(gather_pictures(image), columns[0], names, heading)
        return (pictures.movedim(1, -1),)


def gather_pictures(images: list[Tensor]) -> Tensor:
    """Put the pictures of a list of IMAGE batches into one, [B, 3, H, W]. Raises ValueError for an empty list
    and for different sizes."""
    if not images:
        raise ValueError("A sheet needs at least one picture, got an empty list.")
    batches = [to_rgb(image) for image in images]
    sizes = {f"{batch.shape[3]}x{batch.shape[2]}": None for batch in batches}
    if len(sizes) > 1:
        raise ValueError(
            f"The pictures of a sheet have one size, got {', '.join(list(sizes)[:4])}: scale them."
        )
    return torch.cat(batches)
