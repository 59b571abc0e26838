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


def contrastive_losses(pixels: Tensor, ids: Tensor, batch: int, jitter: int = 4):
    """Loss function for `loop.fit` over aligned normalised pixels [N, 3, S, S] and token ids [N, positions].

    Captions that occur more than once in a batch are all right answers. The pictures are shifted by up to `jitter` pixels.
    """

    def losses(model: ContrastiveClip, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randperm(len(ids), generator=generator)[:batch]
        dy, dx = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        with torch.autocast("cpu", torch.bfloat16):
            images = model.clip.encode_pixels(pixels[chosen].roll((dy, dx), (-2, -1)))[:, 0].float()
            text = model.clip.encode_ids(ids[chosen])
        ends = ids[chosen].argmax(dim=1)
        text = text[torch.arange(len(ends)), ends].float()
        same = (ids[chosen][:, None] == ids[chosen][None]).all(dim=-1).float()
        target = same / same.sum(dim=1, keepdim=True)
        logits = model.log_scale.exp().clamp(max=100) * images @ text.T
        yield "clip", (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    return losses
