"""Between two contexts or latents, and along the difference of two texts (Ramesh et al. 2022, unCLIP)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .context import Context


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Vectors [..., d] on the way from first (share 0) to second (1): their directions along the great circle, their norms evenly.

    Where there is no great circle, for vectors that are parallel or zero, the way is straight.
    Raises ValueError for vectors that are exactly opposite: there is no shortest way.
    """
    if share in (0, 1):
        return (second if share else first).expand(torch.broadcast_shapes(first.shape, second.shape))
    norms = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    cosine = (F.normalize(first, dim=-1) * F.normalize(second, dim=-1)).sum(dim=-1, keepdim=True).clamp(-1, 1)
    if (cosine <= -1 + 1e-6).any():
        raise ValueError("There is no shortest way between vectors that are exactly opposite.")
    angle = cosine.acos()
    turned = torch.sin((1 - share) * angle) * F.normalize(first, dim=-1) + torch.sin(share * angle) * F.normalize(second, dim=-1)
    norm = (1 - share) * norms[0] + share * norms[1]
    straight = (angle < 1e-3) | (norms[0] == 0) | (norms[1] == 0)
    return torch.where(straight, (1 - share) * first + share * second, turned / angle.sin() * norm)


def interpolate(first: Context, second: Context, shares: list[float]) -> Context:
    """One context with a sample per share (0 = first … 1 = second), token by token with `slerp`.

    Raises ValueError for contexts of another kind or size than each other, or of more than one sample.
    """
    if first.kind != second.kind or first.tokens.shape != second.tokens.shape or len(first.tokens) != 1:
        raise ValueError(
            f"Only two single contexts of one kind and size can be interpolated, got {first.kind} {list(first.tokens.shape)} and "
            f"{second.kind} {list(second.tokens.shape)}."
        )
    tokens = torch.cat([slerp(first.tokens, second.tokens, share) for share in shares])
    null = torch.cat([slerp(first.unconditional, second.unconditional, share) for share in shares])
    return Context(first.kind, tokens, None if first.null is None and second.null is None else null)


def text_diff(context: Context, before: Tensor, after: Tensor, share: float) -> Context:
    """A context turned from what one text says towards what another one says: every token slerps by `share` (0.25 to 0.5 in the paper)
    towards the difference of the texts.

    before, after: the texts' global embeddings [1, d]. Equal texts leave the context as it is.
    """
    difference = after - before
    if not difference.any():
        return context
    direction = F.normalize(difference, dim=-1)[:, None].to(context.tokens)
    return replace(context, tokens=slerp(context.tokens, direction * context.tokens.norm(dim=-1, keepdim=True), share))
