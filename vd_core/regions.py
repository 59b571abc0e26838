"""Regions: where and when a context acts, and the shares that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from .placement import check_not_meta


@dataclass(frozen=True, eq=False)
class Region:
    """Where and when a context acts.

    mask:       [1 or B, 1, H, W] in 0..1, how strongly it acts where; of any size, it is stretched over the
                picture. None = everywhere.
    start, end: shares of the way from noise (0) to data (1), both within 0..1.
    """

    mask: Tensor | None = None
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.mask is not None:
            check_region_mask(self.mask)
        if not (isinstance(self.start, Real) and isinstance(self.end, Real)) or not (
            0 <= self.start < self.end <= 1
        ):
            raise ValueError(
                f"A context acts from a start to a later end between 0 and 1, got {self.start} to {self.end}."
            )


def check_region_mask(mask: Tensor) -> None:
    """Raise ValueError unless a mask is [1 or batch, 1, height, width] in 0..1; resizing may overshoot."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"The mask of a region must be a torch tensor, got {type(mask).__name__}.")
    if mask.ndim != 4 or mask.shape[1] != 1 or 0 in mask.shape:
        raise ValueError(
            f"The mask of a region must be [1 or batch, 1, height, width], got {list(mask.shape)}."
        )
    check_not_meta(mask, "The mask of a region is", "make it on another device")
    low, high = (float(bound) for bound in mask.detach().float().aminmax())
    if not (low >= -0.5 and high <= 1.5):
        raise ValueError(f"The mask of a region holds values in 0..1, got {low:.3g} to {high:.3g}.")


def compute_local_ratios(
    ratios: Sequence[float],
    regions: Sequence[Region | None],
    progress: float,
    batch: int,
    size: Sequence[int],
) -> list[float] | list[Tensor]:
    """Compute the share of each context at one moment: ratio_i m_i / Σ ratio_j m_j with m_i how strongly its
    region acts, so that where only one context acts it acts alone (training-free grounding by masks). Where
    and when none acts, all do with their ratios.

    ratios:   of the contexts, adding up to 1.
    progress: from noise (0) to data (1).
    batch:    how many samples there are.
    size:     of the latent, (height, width); empty for texts.

    Returns numbers, or maps [1 or B, 1, height, width] when there is a mask. Raises ValueError for a mask on
    a text, and for a number of masks that is neither 1 nor the batch.
    """
    acts = [
        region is None or region.start <= progress and (progress < region.end or region.end == 1)
        for region in regions
    ]
    masks = [None if region is None else region.mask for region in regions]
    if all(mask is None for mask in masks):
        acting = sum(ratio for ratio, on in zip(ratios, acts, strict=True) if on)
        if all(acts) or acting == 0:
            return list(ratios)
        return [ratio * on / acting for ratio, on in zip(ratios, acts, strict=True)]
    if not size:
        raise ValueError(
            "A region with a mask works on pictures only: for texts, give the context just a start and an "
            "end."
        )
    for mask in masks:
        if mask is not None and len(mask) not in (1, batch):
            raise ValueError(f"A region has {len(mask)} masks for {batch} samples: use one, or as many.")
    # In float64 on the CPU, so that masks of ones give exactly the ratios.
    maps = [
        ratio
        * on
        * (torch.ones(1, 1, *size, dtype=torch.float64) if mask is None else resize_mask(mask, size))
        for ratio, on, mask in zip(ratios, acts, masks, strict=True)
    ]
    total = torch.zeros(1, 1, *size, dtype=torch.float64)
    for share in maps:
        total = total + share
    return [
        torch.where(total > 0, share / total.clamp(min=1e-12), ratio)
        for share, ratio in zip(maps, ratios, strict=True)
    ]


def resize_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a mask to the size of a latent: the mean over each cell, float64 on the CPU."""
    return F.adaptive_avg_pool2d(mask.cpu().double().clamp(0, 1), (size[0], size[1]))
