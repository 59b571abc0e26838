"""Contrastive training of the small CLIP (Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.clip import Clip


class ContrastiveClip(nn.Module):
    """A CLIP and the temperature that only its training needs."""

    def __init__(self, clip: Clip):
        super().__init__()
        self.clip = clip
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, shift and mirror each picture [B, 3, S, S] a little at random; what comes in from outside repeats the border."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, scale = uniform(-0.3, 0.3), uniform(0.8, 1.2)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cos * mirror, -sin, uniform(-0.15, 0.15)], dim=1), torch.stack([sin * mirror, cos, uniform(-0.15, 0.15)], dim=1)
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def contrastive_losses(pixels: Tensor, ids: Tensor, batch: int):
    """Loss function for `loop.fit` over aligned normalised pixels [N, 3, S, S] and token ids [N, positions].

    Captions that occur more than once in a batch are all right answers. The pictures are distorted, for a small set is soon known by heart.
    """

    def losses(model: ContrastiveClip, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randperm(len(ids), generator=generator)[:batch]
        pictures = distort(pixels[chosen], generator)
        with torch.autocast("cpu", torch.bfloat16):
            images = model.clip.encode_pixels(pictures)[:, 0].float()
            text = model.clip.encode_ids(ids[chosen])
        ends = ids[chosen].argmax(dim=1)
        text = text[torch.arange(len(ends)), ends].float()
        same = (ids[chosen][:, None] == ids[chosen][None]).all(dim=-1).float()
        target = same / same.sum(dim=1, keepdim=True)
        logits = model.log_scale.exp().clamp(max=100) * images @ text.T
        yield "clip", (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    return losses
