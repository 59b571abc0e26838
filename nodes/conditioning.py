"""Contexts on CONDITIONING wires: one tensor with all contexts along the tokens, and a `vd_layout` that says
what is where.

The tensor is the only copy of the data, so every stock conditioning node keeps working on it. This is the
only place that converts between the two forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..vd_core.context import (
    Blend,
    Context,
    Region,
    average,
    compute_ratios,
    concatenate,
    concatenate_weights,
    join,
)

Conditioning = list[list[Any]]  # [[tokens, options]]


class Part(NamedTuple):
    """One context of a conditioning without its tokens; the shares of all parts add up to 1."""

    kind: str
    count: int  # type: ignore[assignment]  # hides that of tuples
    ratio: float
    region: Region | None = None
    guidance: float = 1.0


Layout = tuple[Part, ...]


def to_conditioning(
    contexts: Blend, options: tuple[dict, dict] = ({}, {})
) -> tuple[Conditioning, Conditioning]:
    """Put a blend on wires, as positive and negative CONDITIONING. options: more entries for each of them."""
    layout = tuple(
        Part(c.kind, c.tokens.shape[1], ratio, c.region, c.guidance)
        for c, ratio in zip(contexts, compute_ratios(contexts), strict=True)
    )
    positive = [c.tokens for c in contexts], [(c.token_weights, c.tokens) for c in contexts]
    negative = [c.unconditional for c in contexts], [(c.null_token_weights, c.tokens) for c in contexts]
    first, second = (
        [[concatenate(tokens), set_own_entries(more, layout, concatenate_weights(weights))]]
        for (tokens, weights), more in zip((positive, negative), options, strict=True)
    )
    return first, second


def set_own_entries(options: dict, layout: Layout | None, token_weights: Tensor | None) -> dict:
    """Put our entries into a conditioning's options; an entry that is None is left out."""
    own = {"vd_layout": layout, "vd_token_weights": token_weights}
    others = {key: value for key, value in options.items() if key not in own}
    return others | {key: value for key, value in own.items() if value is not None}


def to_contexts(positive: Conditioning, negative: Conditioning) -> Blend:
    """Take the blend from a positive and a negative CONDITIONING. Raises ValueError with what to rewire."""
    for name, conditioning in (("positive", positive), ("negative", negative)):
        if len(conditioning) != 1 or "vd_layout" not in conditioning[0][1]:
            raise ValueError(
                f"{name} must come from one of the context nodes of Versatile Diffusion (VD), directly or "
                "through its Blend."
            )
    (tokens, options), (nulls, null_options) = positive[0], negative[0]
    layout = options["vd_layout"]
    if layout != null_options["vd_layout"]:
        raise ValueError(
            "positive and negative must come from the same context or Blend node: they hold different "
            "contexts or ratios."
        )
    columns = (
        layout,
        split_tokens(tokens, layout),
        split_tokens(nulls, layout),
        split_token_weights(options.get("vd_token_weights"), layout),
        split_token_weights(null_options.get("vd_token_weights"), layout),
    )
    return [
        Context(part.kind, tokens, null, part.ratio, part.region, part.guidance, weights, null_weights)
        for part, tokens, null, weights, null_weights in zip(*columns, strict=True)
    ]


def change_contexts(conditioning: Conditioning, change: Callable[[Part], Part], what: str) -> Conditioning:
    """Change each context of a conditioning. Raises ValueError, which calls the change `what`, for others."""
    if any("vd_layout" not in options for _, options in conditioning):
        raise ValueError(
            f"{what} works on contexts of Versatile Diffusion (VD) only, and this conditioning is another "
            "one."
        )
    return [
        [tokens, {**options, "vd_layout": tuple(map(change, options["vd_layout"]))}]
        for tokens, options in conditioning
    ]


def split_tokens(tokens: Tensor, layout: Layout) -> Sequence[Tensor]:
    """Split tokens [B, Σ n_i, d] into those of each context, [B, n_i, d]. Raises ValueError when the layout
    does not fit."""
    counts = [part.count for part in layout]
    if tokens.shape[1] != sum(counts):
        raise ValueError(
            f"A node between the contexts and the sampler made {tokens.shape[1]} tokens of {sum(counts)}, so "
            "the contexts can no longer be told apart; use Join Contexts (VD) or Blend Contexts (VD) instead."
        )
    return tokens.split(counts, dim=1)


def split_token_weights(weights: Tensor | None, layout: Layout) -> Sequence[Tensor | None]:
    """Split token weights [B, Σ n_i] into those of each context, [B, n_i]."""
    return [None] * len(layout) if weights is None else weights.split([part.count for part in layout], dim=1)


def interpolate_options(first: Conditioning, second: Conditioning, shares: Sequence[float]) -> dict:
    """Merge what else goes with the contexts of two conditionings: the second's over the first's, and what
    ControlNets read of prompts interpolated, one row per share."""
    (_, options), (_, more) = first[0], second[0]
    ends = [
        side["cross_attn_controlnet"]
        for side in (options, more)
        if side.get("cross_attn_controlnet") is not None
    ]
    read = torch.cat([torch.lerp(ends[0], ends[1], share) for share in shares]) if len(ends) == 2 else None
    return {**options, **more} | ({} if read is None else {"cross_attn_controlnet": read})


def join_conditionings(first: Conditioning, second: Conditioning, share: float | None) -> Conditioning:
    """Join two conditionings of one context each: side by side, or with `share` of the second as an average.

    They may also be plain ones, of CLIP for Stable Diffusion. Raises ValueError for blends, lists and
    contexts of different kinds.
    """
    if len(first) != 1 or len(second) != 1:
        raise ValueError(
            "Only single conditionings can be joined: join them before they get areas or masks and are "
            "combined."
        )
    layouts = [layout for _, options in (*first, *second) if (layout := options.get("vd_layout"))]
    plain = Part(layouts[0][0].kind if layouts else "plain", 0, 1.0)
    contexts = []
    for tokens, options in (*first, *second):
        layout = options.get("vd_layout") or (plain,)
        if len(layout) > 1:
            kinds = " and ".join(sorted({part.kind for part in layout}))
            raise ValueError(
                f"Only contexts of one kind can be joined, got a blend of {kinds}: blend them instead."
            )
        (part,) = layout
        weights = options.get("vd_token_weights")
        contexts.append(
            Context(part.kind, tokens, region=part.region, guidance=part.guidance, token_weights=weights)
        )
    joined = join(contexts) if share is None else average(contexts[0], contexts[1], share)
    layout = (Part(joined.kind, joined.tokens.shape[1], 1.0),) if len(layouts) == 2 else None
    return [[joined.tokens, set_own_entries({**first[0][1], **second[0][1]}, layout, joined.token_weights)]]
