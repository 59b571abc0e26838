"""Pictures as people bring them: other places, sizes, margins, grounds, and the losses of JPEG.

Pictures are [B, 3, S, S] in 0..1. What turns, recolours and draws in ink stands in `clip`, whose training
brought it in.
"""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..pictures import from_pil, to_pil

NEAR_WHITE = 0.94  # the least of a pixel's channels from which it counts as ground
SIZES = 4  # different sizes of things in one batch


def place(images: Tensor, generator: torch.Generator, smallest: float = 0.6) -> Tensor:
    """Make each picture smaller, without aliasing, and put it anywhere on white.

    smallest: the least share of its side that is left. A batch has only SIZES sizes, so that it is scaled in
              few calls.
    """
    side = images.shape[-1]
    placed = torch.ones_like(images)
    for rows in torch.randperm(len(images), generator=generator).chunk(SIZES):
        share = smallest + (1 - smallest) * float(torch.rand(1, generator=generator))
        size = max(1, round(share * side))
        small = F.interpolate(
            images[rows], (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        offsets = torch.randint(side - size + 1, (len(rows), 2), generator=generator).tolist()
        for row, thing, (top, left) in zip(rows.tolist(), small, offsets, strict=True):
            placed[row, :, top : top + size, left : left + size] = thing
    return placed


def find_ground(images: Tensor) -> Tensor:
    """Find the white ground, bool [B, 1, S, S]: near-white pixels that such pixels join to the border."""
    white = (images.amin(dim=1, keepdim=True) >= NEAR_WHITE).float()
    reached = F.pad(torch.zeros_like(white[..., 1:-1, 1:-1]), (1, 1, 1, 1), value=1.0) * white
    while True:
        grown = F.max_pool2d(reached, 3, stride=1, padding=1) * white
        if torch.equal(grown, reached):
            return reached.bool()
        reached = grown


def replace_ground(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put each picture on another ground: one colour, or two that run into each other in any direction.

    The ground multiplies white, and the edge of the thing, which is half white.
    """
    count, side = len(images), images.shape[-1]
    first, second = torch.rand(2, count, 3, 1, 1, generator=generator)
    second = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, first, second)
    angle = 2 * torch.pi * torch.rand(count, 1, 1, 1, generator=generator)
    line = torch.linspace(-0.5, 0.5, side)
    along = 0.5 + (angle.cos() * line + angle.sin() * line[:, None]) / 2**0.5
    edge = F.max_pool2d(find_ground(images).float(), 3, stride=1, padding=1)
    return torch.where(edge > 0, images * torch.lerp(first, second, along), images)


def compress(images: Tensor, generator: torch.Generator, lowest: int = 40) -> Tensor:
    """Write each picture as JPEG, of a quality between `lowest` and 95, and read it again."""
    qualities = torch.randint(lowest, 96, (len(images),), generator=generator).tolist()
    read = []
    for picture, quality in zip(to_pil(images), qualities, strict=True):
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=quality)
        read.append(Image.open(written).convert("RGB"))
    return from_pil(read)
