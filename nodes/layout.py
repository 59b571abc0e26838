"""Contexts on CONDITIONING wires: one tensor with all contexts along the tokens, and a `vd_layout` that says what is where.

The tensor is the only copy of the data, so every stock conditioning node keeps working on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..vd_core.context import Blend, Context, Region, joined_emphasis, ratios

Conditioning = list


class Part(NamedTuple):
    """One context of a conditioning: its kind, its number of tokens, its share of all (they add up to 1), where and when it acts, and how
    strongly it guides."""

    kind: str
    count: int
    ratio: float
    region: Region | None = None
    guidance: float = 1.0


Layout = tuple[Part, ...]


def to_conditioning(contexts: Blend, options: tuple[dict, dict] = ({}, {})) -> tuple[Conditioning, Conditioning]:
    """A blend as positive and negative CONDITIONING. options: what else goes with each of the two."""
    layout = tuple(
        Part(c.kind, c.tokens.shape[1], ratio, c.region, c.guidance) for c, ratio in zip(contexts, ratios(contexts), strict=True)
    )
    sides = zip(*((c.tokens, c.unconditional) for c in contexts), strict=True)
    emphasis = [joined_emphasis([(getattr(c, name), c.tokens) for c in contexts]) for name in ("emphasis", "null_emphasis")]
    return tuple(
        [[along_tokens(tensors), with_own(more, layout, counts)]] for tensors, counts, more in zip(sides, emphasis, options, strict=True)
    )


def with_own(options: dict, layout: Layout | None, emphasis: Tensor | None) -> dict:
    """The options of a conditioning with our entries, and only those that there are."""
    own = {"vd_layout": layout, "vd_emphasis": emphasis}
    return {key: value for key, value in options.items() if key not in own} | {
        key: value for key, value in own.items() if value is not None
    }


def along_tokens(tensors: tuple[Tensor, ...]) -> Tensor:
    """Tokens [B or 1, n_i, d] -> [B, Σ n_i, d]."""
    batch, width = max(tensor.shape[0] for tensor in tensors), tensors[0].shape[2]
    for tensor in tensors:
        if tensor.shape[2] != width:
            raise ValueError(f"Contexts of widths {width} and {tensor.shape[2]} cannot be blended: they come from different models.")
        if tensor.shape[0] not in (1, batch):
            raise ValueError(f"Contexts of {tensor.shape[0]} and of {batch} samples cannot be blended: use one, or as many of each.")
    return torch.cat([tensor.expand(batch, -1, -1) for tensor in tensors], dim=1)


def to_contexts(positive: Conditioning, negative: Conditioning) -> Blend:
    """The blend that a positive and a negative CONDITIONING hold. Raises ValueError with what to rewire when they do not fit together."""
    for name, conditioning in (("positive", positive), ("negative", negative)):
        if len(conditioning) != 1 or "vd_layout" not in conditioning[0][1]:
            raise ValueError(f"{name} must come from one of the context nodes of Versatile Diffusion (VD), directly or through its Blend.")
    (tokens, options), (nulls, null_options) = positive[0], negative[0]
    layout = options["vd_layout"]
    if layout != null_options["vd_layout"]:
        raise ValueError("positive and negative must come from the same context or Blend node: they hold different contexts or ratios.")
    parts = zip(layout, split_tokens(tokens, layout), split_tokens(nulls, layout), strict=True)
    counts, null_counts = (split_emphasis(side.get("vd_emphasis"), layout) for side in (options, null_options))
    return [
        Context(part.kind, positive, negative, part.ratio, part.region, part.guidance, emphasis, null_emphasis)
        for (part, positive, negative), emphasis, null_emphasis in zip(parts, counts, null_counts, strict=True)
    ]


def changed(conditioning: Conditioning, change: Callable[[Part], Part], what: str) -> Conditioning:
    """A conditioning with its contexts changed. Raises ValueError for one of other models; `what` names the change."""
    if any("vd_layout" not in options for _, options in conditioning):
        raise ValueError(f"{what} works on contexts of Versatile Diffusion (VD) only, and this conditioning is another one.")
    return [[tokens, {**options, "vd_layout": tuple(map(change, options["vd_layout"]))}] for tokens, options in conditioning]


def split_tokens(tokens: Tensor, layout: Layout) -> Sequence[Tensor]:
    """Tokens [B, Σ n_i, d] -> those of each context, [B, n_i, d]. Raises ValueError when the layout does not fit."""
    counts = [part.count for part in layout]
    if tokens.shape[1] != sum(counts):
        raise ValueError(
            f"A node between the contexts and the sampler made {tokens.shape[1]} tokens of {sum(counts)}, so the contexts can no longer be "
            "told apart; use Join Contexts (VD) or Blend Contexts (VD) instead."
        )
    return tokens.split(counts, dim=1)


def split_emphasis(emphasis: Tensor | None, layout: Layout) -> Sequence[Tensor | None]:
    """Emphasis [B, Σ n_i] -> that of each context, [B, n_i]."""
    return [None] * len(layout) if emphasis is None else emphasis.split([part.count for part in layout], dim=1)


def interpolated_options(first: Conditioning, second: Conditioning, shares: Sequence[float]) -> dict:
    """What else goes with the contexts between two conditionings: what both have, and per share what ControlNets read of prompts."""
    (_, options), (_, more) = first[0], second[0]
    ends = [side["cross_attn_controlnet"] for side in (options, more) if side.get("cross_attn_controlnet") is not None]
    read = {"cross_attn_controlnet": torch.cat([torch.lerp(*ends, share) for share in shares])} if len(ends) == 2 else {}
    return {**options, **more, **read}


def joined(first: Conditioning, second: Conditioning, share: float | None) -> Conditioning:
    """Two conditionings of one context each as one: side by side along the tokens, or with `share` of the second as a weighted mean.

    They may also be plain ones, of CLIP for Stable Diffusion. Raises ValueError for blends, lists and contexts of different kinds.
    """
    if len(first) != 1 or len(second) != 1:
        raise ValueError("Only single conditionings can be joined: join them before they get areas or masks and are combined.")
    (one, options), (other, more) = first[0], second[0]
    layouts = [layout for layout in (options.get("vd_layout"), more.get("vd_layout")) if layout]
    kinds = {part.kind for layout in layouts for part in layout}
    if any(part.region or part.guidance != 1 for layout in layouts for part in layout):
        raise ValueError("A context with a region or a guidance of its own cannot be joined: join first, or blend them.")
    if any(len(layout) > 1 for layout in layouts) or len(kinds) > 1:
        raise ValueError(f"Only contexts of one kind can be joined, got {' and '.join(sorted(kinds))}: blend them instead.")
    emphasis = joined_emphasis([(options.get("vd_emphasis"), one), (more.get("vd_emphasis"), other)])
    if one.shape[2] != other.shape[2]:
        raise ValueError(f"Contexts of widths {one.shape[2]} and {other.shape[2]} cannot be joined: they come from different models.")
    if share is None:
        tokens = along_tokens((one, other))
    elif emphasis is not None:
        raise ValueError("Prompts with weights, as in (word:1.5), cannot be averaged: concatenate them, or take the weights out.")
    else:
        count, batch = max(one.shape[1], other.shape[1]), max(len(one), len(other))
        one, other = (along_tokens((x, x.new_zeros(batch, count - x.shape[1], x.shape[2]))) for x in (one, other))
        tokens = torch.lerp(one, other, share)
    layout = (Part(kinds.pop(), tokens.shape[1], 1.0),) if len(layouts) == 2 else None
    return [[tokens, with_own({**options, **more}, layout, emphasis)]]
