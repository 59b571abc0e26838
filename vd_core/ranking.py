"""How well pictures and texts fit together, as CLIP sees it, and which fit best."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOGIT_SCALE = 100.0  # the factor of the cosine in all published CLIPs, at which their training clips it (Radford et al. 2021, section 2.5)


def similarity(images: Tensor, texts: Tensor) -> Tensor:
    """The cosine of every picture with every text, [N, M] in -1..1, from their global embeddings [N, d] and [M, d].

    Raises ValueError for embeddings of different widths.
    """
    if images.shape[-1] != texts.shape[-1]:
        raise ValueError(
            f"Pictures are embedded in {images.shape[-1]} numbers and texts in {texts.shape[-1]}: clip and clip_vision come from different "
            "models."
        )
    # Products and sums that do not depend on the neighbours: a matrix product rounds differently for other batches, so equals would differ.
    return (F.normalize(images.float(), dim=-1)[:, None] * F.normalize(texts.to(images.device).float(), dim=-1)).sum(dim=-1)


def clip_score(cosine: Tensor) -> Tensor:
    """CLIPScore, 2.5 max(cosine, 0), in 0..2.5 (Hessel et al. 2021, section 3)."""
    return 2.5 * cosine.clamp(min=0)


def probabilities(cosine: Tensor) -> Tensor:
    """The share of each of the candidates along the last dimension, softmax(100 cosine): CLIP's zero-shot classifier."""
    return (LOGIT_SCALE * cosine).softmax(dim=-1)


def best_first(scores: Tensor, best: int = 0) -> list[int]:
    """The places of the `best` highest of scores [N] (0 = all), highest first; equal ones keep their order."""
    return torch.argsort(scores, descending=True, stable=True)[: best or None].tolist()
