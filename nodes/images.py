"""IMAGE and MASK as the encoders want them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..vd_core.pictures import check_range, resize


def to_rgb(image: Tensor) -> Tensor:
    """Turn IMAGE [B, H, W, 1, 3 or 4] in 0..1 into [B, 3, H, W], float32; grey is repeated, an alpha channel
    dropped. Raises ValueError for others."""
    if (
        image.ndim != 4
        or image.shape[-1] not in (1, 3, 4)
        or 0 in image.shape
        or not image.is_floating_point()
    ):
        raise ValueError(
            "image must hold pictures [batch, height, width, channels], grey, RGB or RGBA, got "
            f"{list(image.shape)}."
        )
    pictures = image.float().movedim(-1, 1)
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures[:, :3]


def to_masks(mask: Tensor) -> Tensor:
    """Turn MASK [B, H, W] or [H, W] in 0..1, or of truth values, into [B, 1, H, W], float32.

    Raises ValueError for others.
    """
    if (
        not isinstance(mask, Tensor)
        or mask.ndim not in (2, 3)
        or 0 in mask.shape
        or not (mask.is_floating_point() or mask.dtype == torch.bool)
    ):
        got = f"{list(mask.shape)} {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must hold masks [batch, height, width] with numbers in 0..1, got {got}.")
    masks = mask.float().reshape(-1, 1, *mask.shape[-2:])
    if not masks.isfinite().all():
        raise ValueError("mask holds values that are not finite numbers (NaN or inf).")
    check_range(masks)
    return masks


def paint_masked(pictures: Tensor, mask: Tensor, crop: bool) -> Tensor:
    """Paint the masked parts of pictures [B, 3, H, W] in the mean colour of the rest.

    mask: MASK [1 or B, h, w], 1 = masked.
    crop: cut away masked borders too, the same for all.

    Raises ValueError when nothing is left, and as `to_masks`.
    """
    keep = 1 - resize(to_masks(mask), pictures.shape[2], pictures.shape[3], mode="bilinear")
    if len(keep) not in (1, len(pictures)):
        raise ValueError(f"There are {len(keep)} masks for {len(pictures)} pictures: use one, or as many.")
    total = keep.sum(dim=(2, 3), keepdim=True)
    if (total < 1).any():
        raise ValueError("The mask leaves nothing of a picture.")
    mean = (pictures * keep).sum(dim=(2, 3), keepdim=True) / total
    pictures = pictures * keep + mean * (1 - keep)
    if not crop:
        return pictures
    left = keep.amax(dim=(0, 1)) > 0.5
    rows, columns = left.any(dim=1).nonzero(), left.any(dim=0).nonzero()
    return (
        pictures[:, :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        if len(rows)
        else pictures
    )


def limit_side(pictures: Tensor, longest_side: int) -> Tensor:
    """Scale pictures [B, 3, H, W] down so that no side is longer than a limit; 0 = no limit."""
    height, width = pictures.shape[2:]
    if not longest_side or max(height, width) <= longest_side:
        return pictures
    scale = longest_side / max(height, width)
    return resize(pictures, max(1, round(height * scale)), max(1, round(width * scale)))
