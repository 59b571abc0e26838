"""The slow path: a diffuser called with everything written out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vd_core.context import Context
from vd_core.diffuser.kv_cache import KVCache
from vd_core.diffuser.mixing import Share


def plainly(diffuser: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Give each evaluation its own samples and rows of tokens, zeros too, and all layers; share and cache
    nothing."""

    def predict(
        x: Tensor,
        t: Tensor,
        contexts: Sequence[Context],
        data: str,
        *,
        evaluations: int,
        shares: Sequence[Share],
        caches: Sequence[KVCache],
        **options: Any,
    ) -> Tensor:
        rows = [write_out(*both, evaluations, len(x)) for both in zip(contexts, caches, shares, strict=True)]
        maps = {"shares": shares} if any(isinstance(share, Tensor) for share in shares) else {}
        timesteps = t.expand(len(x)).repeat(evaluations)
        return diffuser(torch.cat([x] * evaluations), timesteps, rows, data, **maps, **options)

    return predict


def write_out(context: Context, cache: KVCache, share: Share, evaluations: int, batch: int) -> Context:
    """Write out a row of tokens for every sample of every evaluation."""
    samples, zero_samples = evaluations * batch, cache.zero_evaluations * batch

    def rows(part: Tensor) -> Tensor:
        return part.repeat_interleave((samples - zero_samples) // len(part), dim=0)

    zeros = context.tokens.new_zeros(zero_samples, *context.tokens.shape[1:])
    ones = context.tokens.new_ones(zero_samples, context.tokens.shape[1])
    weights = None if context.token_weights is None else torch.cat([ones, rows(context.token_weights)])
    weight = 1.0 if isinstance(share, Tensor) else share
    return Context(
        context.kind, torch.cat([zeros, rows(context.tokens)]), weight=weight, token_weights=weights
    )
