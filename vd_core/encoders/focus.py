"""Focus: shift an image context between what is shown (semantics) and how it looks (style)."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor


def compute_factors(level: float, rank: int = 20, drop: tuple[int, int] = (1, 5)) -> Tensor:
    """Compute what the `rank` leading singular values are multiplied by, [rank].

    level 0.5 changes nothing; towards 0 the first 2 components (`drop[0]` + 1) vanish, towards 1 all but the
    first `drop[1]`.
    """
    factors = torch.ones(rank)
    index = torch.arange(rank, dtype=torch.float32)
    steep = math.exp(2 * (level - 0.5))
    if level < 0.5:
        start = -drop[0] + (1 + drop[0]) * (steep - 1 / math.e) / (1 - 1 / math.e)
        leading = index <= drop[0]
        ramp = start + (1 - start) * index / (drop[0] + 1)
    else:
        last = rank - drop[1]
        start = -last + (last + 1) * (steep - math.e) / (1 - math.e)
        leading = index >= drop[1]
        ramp = start + (1 - start) * (rank - 1 - index) / last
    return torch.where(leading, ramp.clamp(min=0), factors)


def focus(tokens: Tensor, level: float, rank: int = 20, drop: tuple[int, int] = (1, 5)) -> Tensor:
    """Change the leading components of patch tokens [B, n, d], without the global one, per sample.

    level: 0 semantics, 0.5 unchanged, 1 style. The rank and drop of `compute_factors`; fewer tokens or
           features lower the rank.

    The official app's focus, with an exact singular value decomposition in place of its randomised one.
    Raises ValueError for a level outside 0..1, for another shape and for values that are not finite.
    """
    if tokens.ndim != 3 or 0 in tokens.shape:
        raise ValueError(f"The focus acts on tokens [batch, tokens, width], got {list(tokens.shape)}.")
    if not isinstance(level, Real) or not 0 <= level <= 1:
        raise ValueError(f"The focus lies between 0 (semantics) and 1 (style), got {level!r}.")
    if level == 0.5:
        return tokens
    x, mean, u, s, v = decompose(tokens)
    rank = min(rank, s.shape[-1])
    factors = torch.zeros_like(s)
    factors[:, :rank] = compute_factors(level, rank, drop).to(s)
    if level < 0.5:
        # Quirk kept: what lies behind the leading components is dropped at once above 0.5 and fully kept
        # below.
        factors[:, rank:] = 1
    y = (u * (s * factors)[:, None]) @ v + mean
    before, after = (values.std(dim=(1, 2), keepdim=True) for values in (x, y))
    # Tokens that are all alike, such as those of a picture that is masked as a whole, have no contrast to
    # restore.
    return (y * torch.where(after > 0, before / after, 1)).to(tokens)


def keep_leading_components(tokens: Tensor, rank: int) -> Tensor:
    """Keep the `rank` leading components alone of patch tokens [B, n, d], per sample.

    The style of the official I2T2I app.

    Each token's mean over its features is kept; no contrast is restored, as that app did not. A rank of
    min(n, d) changes nothing. Raises ValueError for values that are not finite.
    """
    _, mean, u, s, v = decompose(tokens)
    return ((u[..., :rank] * s[:, None, :rank]) @ v[:, :rank] + mean).to(tokens)


def decompose(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Decompose tokens [B, n, d]: in float32, each token's mean, and the singular value decomposition of the
    rest.
    """
    if not tokens.isfinite().all():
        raise ValueError(
            "The picture or the mask holds values that are not finite numbers, so it has no focus to move."
        )
    x = tokens.float()
    mean = x.mean(dim=-1, keepdim=True)
    return x, mean, *torch.linalg.svd(x - mean, full_matrices=False)
