"""Contexts on CONDITIONING wires: one tensor with all contexts along the tokens, and a `vd_layout` that says what is where.

The tensor is the only copy of the data, so every stock conditioning node keeps working on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..vd_core.context import Blend, Context, ratios

Conditioning = list
Layout = tuple[tuple[str, int, float], ...]  # (kind, number of tokens, ratio) of each context, ratios adding up to 1


def to_conditioning(contexts: Blend, options: tuple[dict, dict] = ({}, {})) -> tuple[Conditioning, Conditioning]:
    """A blend as positive and negative CONDITIONING. options: what else goes with each of the two."""
    layout = tuple((c.kind, c.tokens.shape[1], ratio) for c, ratio in zip(contexts, ratios(contexts), strict=True))
    sides = zip(*((c.tokens, c.unconditional) for c in contexts), strict=True)
    return tuple([[along_tokens(tensors), {**more, "vd_layout": layout}]] for tensors, more in zip(sides, options, strict=True))


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
    return [Context(kind, part, null, ratio) for (kind, _, ratio), (part, _), (null, _) in parts]


def split_tokens(tokens: Tensor, layout: Layout) -> list[tuple[Tensor, float]]:
    """Tokens [B, Σ n_i, d] -> the (tokens [B, n_i, d], ratio) of each context. Raises ValueError when the layout does not fit."""
    counts = [count for _, count, _ in layout]
    if tokens.shape[1] != sum(counts):
        raise ValueError(
            f"A node between the contexts and the sampler made {tokens.shape[1]} tokens of {sum(counts)}, so the contexts can no longer be "
            "told apart; use Join Contexts (VD) or Blend Contexts (VD) instead."
        )
    return [(part, ratio) for part, (_, _, ratio) in zip(tokens.split(counts, dim=1), layout, strict=True)]


def joined(first: Conditioning, second: Conditioning, share: float | None) -> Conditioning:
    """Two conditionings of one context each as one: side by side along the tokens, or with `share` of the second as a weighted mean.

    They may also be plain ones, of CLIP for Stable Diffusion. Raises ValueError for blends, lists and contexts of different kinds.
    """
    if len(first) != 1 or len(second) != 1:
        raise ValueError("Only single conditionings can be joined: join them before they get areas or masks and are combined.")
    (one, options), (other, more) = first[0], second[0]
    layouts = [layout for layout in (options.get("vd_layout"), more.get("vd_layout")) if layout]
    kinds = {kind for layout in layouts for kind, _, _ in layout}
    if any(len(layout) > 1 for layout in layouts) or len(kinds) > 1:
        raise ValueError(f"Only contexts of one kind can be joined, got {' and '.join(sorted(kinds))}: blend them instead.")
    if share is None:
        tokens = along_tokens((one, other))
    else:
        count, batch = max(one.shape[1], other.shape[1]), max(len(one), len(other))
        one, other = (along_tokens((x, x.new_zeros(batch, count - x.shape[1], x.shape[2]))) for x in (one, other))
        tokens = torch.lerp(one, other, share)
    layout = {"vd_layout": ((kinds.pop(), tokens.shape[1], 1.0),)} if len(layouts) == 2 else {}
    return [[tokens, {key: value for key, value in {**options, **more}.items() if key != "vd_layout"} | layout]]
