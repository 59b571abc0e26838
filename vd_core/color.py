"""Colour adjustment: give pictures the colours of a reference."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 1e-5  # a standard deviation below this is rounding: one 8-bit step in one pixel of 256x256 is 1.5e-5


def match_color(images: Tensor, reference: Tensor) -> Tensor:
    """Give pictures [B, 3, H, W] in 0..1 the mean and standard deviation, per channel, of a reference [1 or
    B, 3, h, w].

    The official app's "Simple" adjustment. A channel of one single value only takes the mean. Raises
    ValueError for other shapes.
    """
    if any(x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape for x in (images, reference)) or len(
        reference
    ) not in (1, len(images)):
        raise ValueError(
            "Colour adjustment needs pictures [batch, 3, height, width] and one reference, or one per "
            f"picture, got {list(images.shape)} and {list(reference.shape)}."
        )
    (mean, std), (wanted_mean, wanted_std) = (compute_statistics(x) for x in (images, reference))
    scale = torch.where(std > FLAT, wanted_std / std, 0)
    return ((images - mean) * scale + wanted_mean).clamp(0, 1)


def compute_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and unbiased standard deviation of each channel, [B, C, 1, 1]; 0 for one pixel."""
    unbiased = images.shape[2] * images.shape[3] > 1
    return images.mean(dim=(2, 3), keepdim=True), images.std(
        dim=(2, 3), keepdim=True, correction=int(unbiased)
    )
