"""Interpolate contexts and latents; turn contexts by the difference of texts (Ramesh et al. 2022, unCLIP)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .context import Blend, Context, compute_ratios


def spread_shares(count: int) -> list[float]:
    """Return `count` shares of the second end, from 0 to 1.

    Raises ValueError for fewer than two.
    """
    if count < 2:
        raise ValueError(
            f"Both ends belong to the way between them, so count must be 2 or more, got {count}."
        )
    return torch.linspace(0, 1, count).tolist()


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Turn vectors [..., d] from first (share 0) to second (1) along the great circle, their norms evenly.

    Vectors that are parallel or zero have no great circle and are interpolated linearly. Raises ValueError
    for vectors that are exactly opposite, which have no shortest way.
    """
    if share in (0, 1):
        return (second if share else first).expand(torch.broadcast_shapes(first.shape, second.shape))
    norms = first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True)
    start, end = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    cosine = (start * end).sum(dim=-1, keepdim=True).clamp(-1, 1)
    if (cosine <= -1 + 1e-6).any():
        raise ValueError("There is no shortest way between vectors that are exactly opposite.")
    angle = cosine.acos()
    turned = torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end
    norm = (1 - share) * norms[0] + share * norms[1]
    straight = (angle < 1e-3) | (norms[0] == 0) | (norms[1] == 0)
    return torch.where(straight, torch.lerp(first, second, share), turned / angle.sin() * norm)


def interpolate(first: Context, second: Context, shares: Sequence[float]) -> Context:
    """Interpolate two contexts token by token with `slerp`, a sample per share (0 = first, 1 = second).

    Weights of tokens change evenly.

    Raises ValueError for contexts of another kind or size than each other, of more than one sample, or with a
    region.
    """
    if first.kind != second.kind or first.tokens.shape != second.tokens.shape or len(first.tokens) != 1:
        raise ValueError(
            f"Only two single contexts of one kind and size can be interpolated, got {first.kind} "
            f"{list(first.tokens.shape)} and {second.kind} {list(second.tokens.shape)}."
        )
    if first.region is not None or second.region is not None:
        raise ValueError(
            "Contexts with regions cannot be interpolated: give the interpolated context its region."
        )
    tokens = torch.cat([slerp(first.tokens, second.tokens, share) for share in shares])
    null = torch.cat([slerp(first.unconditional, second.unconditional, share) for share in shares])
    return replace(
        first,
        tokens=tokens,
        null=None if first.null is None and second.null is None else null,
        token_weights=interpolate_weights(first.token_weights, second.token_weights, shares),
        null_token_weights=interpolate_weights(first.null_token_weights, second.null_token_weights, shares),
    )


def interpolate_weights(
    first: Tensor | None, second: Tensor | None, shares: Sequence[float]
) -> Tensor | None:
    """Interpolate the weights of tokens, [1, n] or None for ones, per share."""
    if first is None:
        if second is None:
            return None
        first = torch.ones_like(second)
    elif second is None:
        second = torch.ones_like(first)
    return torch.cat([torch.lerp(first, second, share) for share in shares])


def interpolate_blends(first: Blend, second: Blend, shares: Sequence[float]) -> Blend:
    """Interpolate blends of the same kinds and ratios, context by context. Raises ValueError for others."""
    (kinds, parts), (other_kinds, other_parts) = (
        ([c.kind for c in side], compute_ratios(side)) for side in (first, second)
    )
    if kinds != other_kinds or parts != other_parts:
        raise ValueError(
            "Only contexts of one kind, or blends of the same kinds with the same ratios, can be "
            f"interpolated, got {describe_blend(first)} and {describe_blend(second)}: to go from one kind to "
            "another, blend them with other ratios."
        )
    return [interpolate(one, other, shares) for one, other in zip(first, second, strict=True)]


def describe_blend(contexts: Blend) -> str:
    """Write the kinds and ratios of a blend in words."""
    return " + ".join(
        f"{ratio:.2f} {c.kind}" for c, ratio in zip(contexts, compute_ratios(contexts), strict=True)
    )


def interpolate_latents(first: Tensor, second: Tensor, shares: Sequence[float]) -> Tensor:
    """Interpolate latents [1, …] of one shape to [len(shares), …], each as one vector.

    So noise keeps its spread. Raises ValueError for other shapes.
    """
    if first.shape != second.shape or len(first) != 1 or not first.numel():
        raise ValueError(
            f"Only two single latents of one shape can be interpolated, got {list(first.shape)} and "
            f"{list(second.shape)}."
        )
    flat = first.flatten(1), second.to(first).flatten(1)
    return torch.cat([slerp(*flat, share) for share in shares]).reshape(-1, *first.shape[1:])


def text_diff(context: Context, before: Tensor, after: Tensor, share: float) -> Context:
    """Turn a context from what one text says towards what another says (Ramesh et al. 2022).

    Every token slerps by `share` (0.25 to 0.5 in the paper) towards the difference of the texts.

    before, after: the texts' global embeddings [1, d]. Equal texts leave the context unchanged.

    Raises ValueError for a share outside 0..1, and for texts of another width.
    """
    if not 0 <= share <= 1:
        raise ValueError(
            f"theta lies between 0 (as it is) and 1 (the difference of the texts alone), got {share}."
        )
    if after.shape[-1] != context.tokens.shape[-1]:
        raise ValueError(
            f"The texts' embeddings are {after.shape[-1]} wide, the context's tokens "
            f"{context.tokens.shape[-1]}: clip must be the CLIP that belongs to the vision model."
        )
    difference = after - before
    if not difference.any():
        return context
    direction = F.normalize(difference, dim=-1)[:, None].to(context.tokens)
    return replace(
        context, tokens=slerp(context.tokens, direction * context.tokens.norm(dim=-1, keepdim=True), share)
    )


def text_diff_pictures(contexts: Blend, before: Tensor, after: Tensor, share: float) -> Blend:
    """Turn the image contexts of a blend with `text_diff`; the others stay. Raises ValueError for none."""
    if all(context.kind != "image" for context in contexts):
        raise ValueError(
            "There is no picture to turn: positive and negative must come from an Image Context (VD), or a "
            "blend with one."
        )
    return [
        text_diff(context, before, after, share) if context.kind == "image" else context
        for context in contexts
    ]
