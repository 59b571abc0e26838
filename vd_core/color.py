"""Colour adjustment: give pictures the colours of a reference."""

from __future__ import annotations

from torch import Tensor


def match_color(images: Tensor, reference: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 with the mean and standard deviation, per channel, of the reference [1 or B, 3, h, w].

    The official app's "Simple" adjustment. A channel of one single value only takes the mean.
    """
    if images.ndim != 4 or reference.ndim != 4 or reference.shape[0] not in (1, images.shape[0]):
        raise ValueError(f"One reference, or one per picture, is needed: got {reference.shape[0]} for {images.shape[0]} pictures.")
    mean, std = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True)
    wanted_mean, wanted_std = reference.mean(dim=(2, 3), keepdim=True), reference.std(dim=(2, 3), keepdim=True)
    return ((images - mean) / std.clamp(min=1e-6) * wanted_std + wanted_mean).clamp(0, 1)
