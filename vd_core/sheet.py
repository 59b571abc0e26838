"""Sheets: a grid of pictures, with labels for people."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from .lettering import break_lines, load_font, measure_line
from .pictures import from_pil, to_pil

SMALLEST = 160  # pixels of a picture's width below which letters do not fit under it
INK, PAPER = (38, 38, 42), (255, 255, 255)


def tile_pictures(images: Tensor, columns: int) -> Tensor:
    """Tile pictures [N, 3, H, W] row by row without gaps, [1, 3, rows·H, columns·W]; the rest is white."""
    blank = images.new_ones(-len(images) % columns, *images.shape[1:])
    return rearrange(torch.cat([images, blank]), "(r n) c h w -> 1 c (r h) (n w)", n=columns)


def draw_sheet(images: Tensor, columns: int, labels: Sequence[str] = (), title: str = "") -> Tensor:
    """Draw pictures [N, 3, H, W] in 0..1 in rows of `columns` on white paper, a label under each and a title
    above: [1, 3, height, width].

    labels: the first one belongs to the first picture; pictures without one are fine.

    Small pictures are enlarged by a whole factor, pixel by pixel. Raises ValueError for less than one column
    and for more labels than pictures.
    """
    if columns < 1:
        raise ValueError(f"A sheet has at least one column, got {columns}.")
    if len(labels) > len(images):
        raise ValueError(
            f"There are {len(labels)} labels for {len(images)} pictures: use one line per picture, or fewer."
        )
    factor = -(-SMALLEST // images.shape[3])
    pictures = [
        picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        for picture in to_pil(images)
    ]
    width, height = pictures[0].size
    columns = min(columns, len(pictures))
    gap, letters, heading = width // 14, load_font(max(15, width // 16)), load_font(max(20, width // 11))
    texts = [break_lines(label, letters, width) for label in labels] + [[]] * (len(pictures) - len(labels))
    rows = [range(first, min(first + columns, len(pictures))) for first in range(0, len(pictures), columns)]
    below = [
        gap // 2 + measure_line(letters) * max(len(texts[i]) for i in row)
        if any(texts[i] for i in row)
        else 0
        for row in rows
    ]
    whole = columns * (width + gap) + gap
    above = break_lines(title, heading, whole - 2 * gap)
    head = measure_line(heading) * len(above) + gap if above else 0
    page = Image.new("RGB", (whole, gap + head + sum(below) + len(rows) * (height + gap)), PAPER)
    pen, y = ImageDraw.Draw(page), gap
    for line in above:
        pen.text((gap, y), line, INK, heading)
        y += measure_line(heading)
    y += gap if above else 0
    for row, space in zip(rows, below, strict=True):
        for column, i in enumerate(row):
            x = gap + column * (width + gap)
            page.paste(pictures[i], (x, y))
            for number, line in enumerate(texts[i]):
                left = x + (width - letters.getlength(line)) / 2
                pen.text((left, y + height + gap // 2 + number * measure_line(letters)), line, INK, letters)
        y += height + space + gap
    return from_pil([page])
