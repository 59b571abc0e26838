"""Pictures between tensors and PIL, and resizing as the official app does it: PIL, on 8-bit pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def to_uint8(images: Tensor) -> Tensor:
    """Values in 0..1 (clamped) -> 8 bit, any shape. Quirk kept: 255 x is truncated, not rounded."""
    return (images.detach().float().clamp(0, 1) * 255).to(torch.uint8)


def to_pil(images: Tensor) -> list[Image.Image]:
    """Pictures [B, 3, H, W] or masks [B, 1, H, W] in 0..1 -> PIL pictures, RGB or L.

    Raises ValueError for other shapes, and for values that are not finite, which 8 bits would hide.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"Pictures must be [batch, 1 or 3, height, width], got {list(images.shape)}.")
    if not images.isfinite().all():
        raise ValueError("A picture or a mask holds values that are not finite numbers (NaN or inf): what made it went wrong.")
    arrays = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array) for array in arrays]


def from_pil(pictures: list[Image.Image]) -> Tensor:
    """PIL pictures of one size, all RGB or all L -> [B, 3 or 1, H, W] in 0..1."""
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    if arrays.ndim == 3:
        arrays = arrays[..., None]
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


def resize(images: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Pictures or masks [B, C, H, W] in 0..1 -> [B, C, height, width]; the aspect ratio is not kept. `mode`: a key of RESAMPLING."""
    return from_pil([picture.resize((width, height), RESAMPLING[mode]) for picture in to_pil(images)]).to(images)


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """CLIP's preprocessing: shortest edge to `size` (bicubic), centre crop, [B, 3, size, size] in 0..1."""
    pictures = to_pil(images)
    width, height = (size * side // min(pictures[0].size) for side in pictures[0].size)
    left, top = (width - size) // 2, (height - size) // 2
    box = (left, top, left + size, top + size)
    return from_pil([picture.resize((width, height), RESAMPLING["bicubic"]).crop(box) for picture in pictures]).to(images)
