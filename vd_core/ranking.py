"""How well pictures and texts fit together, as CLIP sees it, and which fit best."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .sampling.checks import check_number, check_values

# The factor of the cosine in all published CLIPs, at which their training clips it (Radford et al. 2021,
# section 2.5).
LOGIT_SCALE = 100.0


def similarity(images: Tensor, texts: Tensor) -> Tensor:
    """Compute the cosine of every picture with every text, [N, M] in -1..1, from global embeddings [N, d] and
    [M, d].

    Raises ValueError for embeddings of different widths, and for what holds no finite numbers.
    """
    check_values("images", images)
    check_values("texts", texts)
    if images.ndim != 2 or texts.ndim != 2:
        raise ValueError(
            f"Embeddings must be [N, d] and [M, d], got {list(images.shape)} and {list(texts.shape)}."
        )
    if images.shape[-1] != texts.shape[-1]:
        raise ValueError(
            f"Pictures are embedded in {images.shape[-1]} numbers and texts in {texts.shape[-1]}: clip and "
            "clip_vision come from different models."
        )
    # Products and sums that do not depend on the neighbours: a matrix product rounds differently for other
    # batches, so equals would differ.
    return (
        F.normalize(images.float(), dim=-1)[:, None] * F.normalize(texts.to(images.device).float(), dim=-1)
    ).sum(dim=-1)


def token_similarity(tokens: Tensor, wanted: Tensor) -> Tensor:
    """Compute the cosine of whole contexts, all tokens as one vector, [N] in -1..1.

    Brain decoding chooses the best of several samples so, by their CLIP tokens and the predicted ones.

    tokens: [N, n, d], as `encode_image` makes them. wanted: [1 or N, n, d].

    Raises ValueError for other shapes, and for what holds no finite numbers.
    """
    check_values("tokens", tokens)
    check_values("wanted", wanted)
    if tokens.ndim != 3 or wanted.shape[1:] != tokens.shape[1:] or len(wanted) not in (1, len(tokens)):
        raise ValueError(
            f"Tokens [N, n, d] are compared with [1 or N, n, d], got {list(tokens.shape)} and "
            f"{list(wanted.shape)}."
        )
    return F.cosine_similarity(tokens.float().flatten(1), wanted.to(tokens.device).float().flatten(1), dim=-1)


def clip_score(cosine: Tensor) -> Tensor:
    """Compute CLIPScore, 2.5 max(cosine, 0), in 0..2.5 (Hessel et al. 2021, section 3)."""
    return 2.5 * cosine.clamp(min=0)


def probabilities(cosine: Tensor) -> Tensor:
    """Turn cosines into the share of each candidate along the last dimension, softmax(100 cosine): CLIP's
    classifier.
    """
    return (LOGIT_SCALE * cosine).softmax(dim=-1)


def best_first(scores: Tensor, best: int = 0) -> list[int]:
    """Sort the places of scores [N], highest first; equal ones keep their order. best: only so many of them;
    0 = all.

    Raises ValueError for scores of another shape or that are not finite, and for a negative `best`.
    """
    check_values("scores", scores)
    check_number("best", best, 0)
    if scores.ndim != 1:
        raise ValueError(f"scores must be [N], got {list(scores.shape)}.")
    return scores.argsort(descending=True, stable=True)[: int(best) or None].tolist()
