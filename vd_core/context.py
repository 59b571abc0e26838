"""What conditions a sample: contexts, and the few things that can be done with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """Where and when a context acts.

    mask:       [1 or B, 1, H, W] in 0..1, how strongly it acts where; of any size, it is stretched over the picture. None = everywhere.
    start, end: shares of the way from noise (0) to data (1), both within 0..1.
    """

    mask: Tensor | None = None
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.mask is not None and (self.mask.ndim != 4 or self.mask.shape[1] != 1 or 0 in self.mask.shape):
            raise ValueError(f"The mask of a region must be [1 or batch, 1, height, width], got {list(self.mask.shape)}.")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"A context acts from a start to a later end between 0 and 1, got {self.start} to {self.end}.")


@dataclass(frozen=True)
class Context:
    """One condition.

    kind:     names the context layers that read it ("text", "image", …).
    tokens:   [B or 1, n, d].
    null:     the unconditional tokens for classifier-free guidance, [B or 1, n, d]; None means zeros.
    weight:   share in a blend, relative to the other contexts of the list.
    region:   where and when it acts; None = everywhere and always.
    guidance: how strongly it guides, relative to the guidance scale of the sampler; 1 = as the others.
    emphasis: how often each token counts in the attention, [B or 1, n]: 0 removes it, 2 doubles it; None = once. At least one
              must be above 0. `null_emphasis` is that of the unconditional tokens.
    """

    kind: str
    tokens: Tensor
    null: Tensor | None = None
    weight: float = 1.0
    region: Region | None = None
    guidance: float = 1.0
    emphasis: Tensor | None = None
    null_emphasis: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3 or 0 in self.tokens.shape:
            raise ValueError(f"A {self.kind} context needs tokens [batch, tokens, width], got shape {tuple(self.tokens.shape)}.")
        if self.null is not None and (
            self.null.shape[1:] != self.tokens.shape[1:] or len({1, self.null.shape[0], self.tokens.shape[0]}) > 2
        ):
            raise ValueError(
                f"The unconditional tokens of a {self.kind} context must have the shape of its tokens, "
                f"got {tuple(self.null.shape)} for {tuple(self.tokens.shape)}."
            )
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"The weight of a {self.kind} context must be a number ≥ 0, got {self.weight}.")
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"The guidance of a {self.kind} context must be a number ≥ 0, got {self.guidance}.")
        for emphasis in (self.emphasis, self.null_emphasis):
            if emphasis is not None and (emphasis.ndim != 2 or emphasis.shape[1] != self.tokens.shape[1]):
                raise ValueError(
                    f"The weights of a {self.kind} context's tokens must be one per token, [batch, {self.tokens.shape[1]}], "
                    f"got {list(emphasis.shape)}."
                )
            if emphasis is not None and not (emphasis.isfinite().all() and (emphasis >= 0).all() and emphasis.any(dim=1).all()):
                raise ValueError(f"The weights of a {self.kind} context's tokens must be numbers ≥ 0, and not 0 for all of them.")

    @property
    def unconditional(self) -> Tensor:
        """The unconditional tokens, [B or 1, n, d]."""
        return torch.zeros_like(self.tokens) if self.null is None else self.null


Blend = list[Context]

LARGEST_NORM = 4.0  # of a context's tokens on average; CLIP's are divided so that the global one has norm 1


def check_tokens(context: Context) -> None:
    """Refuse tokens that no encoder makes: not finite, or many times too large because they were never normalised.

    Raises ValueError that says what to divide by.
    """
    for name, tokens in (("tokens", context.tokens), ("unconditional tokens", context.null)):
        if tokens is None:
            continue
        if tokens.is_meta:
            raise ValueError(f"The {name} of the {context.kind} context are on the meta device and have no values.")
        if not tokens.isfinite().all():
            raise ValueError(f"The {name} of the {context.kind} context hold NaN or inf.")
        norms = tokens.detach().float().norm(dim=-1)
        if (norm := float(norms.mean(dim=1).max())) > LARGEST_NORM:
            by = "its first token" if context.kind == "image" else "its end token"
            raise ValueError(
                f"The {name} of the {context.kind} context have a mean norm of {norm:.3g}, where CLIP's have about 1: "
                f"divide each sample by the norm of {by}."
            )


def ratios(contexts: Blend) -> list[float]:
    """The weights divided by their sum. Raises ValueError when there is no context or all weights are 0."""
    total = sum(context.weight for context in contexts)
    if total <= 0:
        raise ValueError("A blend needs at least one context with a weight above 0.")
    return [context.weight / total for context in contexts]


def local_ratios(
    ratios: Sequence[float], regions: Sequence[Region | None], progress: float, batch: int, size: Sequence[int]
) -> list[float] | list[Tensor]:
    """The share of each context at one moment: ratio_i m_i / Σ ratio_j m_j with m_i how strongly its region acts, so that where only one
    context acts it acts alone (training-free grounding by masks). Where and when none acts, all do with their ratios.

    ratios:   of the contexts, adding up to 1.
    progress: from noise (0) to data (1).
    batch:    how many samples there are.
    size:     of the latent, (height, width); empty for texts.

    Returns numbers, or maps [1 or B, 1, height, width] when there is a mask. Raises ValueError for a mask on a text, and for a number of
    masks that is neither 1 nor the batch.
    """
    acts = [region is None or region.start <= progress and (progress < region.end or region.end == 1) for region in regions]
    masks = [None if region is None else region.mask for region in regions]
    if all(mask is None for mask in masks):
        total = sum(ratio for ratio, on in zip(ratios, acts, strict=True) if on)
        return list(ratios) if all(acts) or total == 0 else [ratio * on / total for ratio, on in zip(ratios, acts, strict=True)]
    if not size:
        raise ValueError("A region with a mask works on pictures only: for texts, give the context just a start and an end.")
    for mask in masks:
        if mask is not None and len(mask) not in (1, batch):
            raise ValueError(f"A region has {len(mask)} masks for {batch} samples: use one, or as many.")
    # In float64 on the CPU, so that masks of ones give the very ratios.
    maps = [
        ratio * on * (torch.ones(1, 1, *size, dtype=torch.float64) if mask is None else stretched(mask, size))
        for ratio, on, mask in zip(ratios, acts, masks, strict=True)
    ]
    total = sum(maps)
    return [torch.where(total > 0, share / total.clamp(min=1e-12), ratio) for share, ratio in zip(maps, ratios, strict=True)]


def stretched(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask over a latent: the mean over each cell, float64 on the CPU."""
    return F.adaptive_avg_pool2d(mask.cpu().double().clamp(0, 1), tuple(size))


def blend(first: Blend, second: Blend, ratio: float) -> Blend:
    """`ratio` (0..1) of `second` and the rest of `first`; chains multiply through. A side with no share is left out."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"The ratio of a blend lies between 0 and 1, got {ratio}.")
    sides = [(first, 1 - ratio), (second, ratio)]
    return [replace(c, weight=r * share) for side, share in sides if share > 0 for c, r in zip(side, ratios(side), strict=True)]


def join(contexts: Blend) -> Context:
    """Several contexts of one kind as one, joined along the tokens; the weights scale the tokens.

    This is how the official app takes several images: they share one softmax, and no weight is normalised.
    The unconditional tokens are joined unscaled. Raises ValueError for contexts that do not fit together or have regions.
    """
    kinds = {context.kind for context in contexts}
    if len(kinds) != 1:
        raise ValueError(f"Only contexts of one kind can be joined along their tokens, got {sorted(kinds)}.")
    if any(context.region or context.guidance != 1 for context in contexts):
        raise ValueError("A context with a region or a guidance of its own cannot be joined: join first, or blend them.")
    batch = max(c.tokens.shape[0] for c in contexts)
    if any(c.tokens.shape[0] not in (1, batch) or c.tokens.shape[2] != contexts[0].tokens.shape[2] for c in contexts):
        raise ValueError(f"Joined contexts need one batch size and one width, got shapes {[tuple(c.tokens.shape) for c in contexts]}.")

    def side_by_side(rows: Iterable[Tensor]) -> Tensor:
        return torch.cat([row.expand(batch, *row.shape[1:]) for row in rows], dim=1)

    return Context(
        kinds.pop(),
        side_by_side(c.tokens * c.weight for c in contexts),
        side_by_side(c.unconditional for c in contexts) if any(c.null is not None for c in contexts) else None,
        emphasis=joined_emphasis([(c.emphasis, c.tokens) for c in contexts]),
        null_emphasis=joined_emphasis([(c.null_emphasis, c.tokens) for c in contexts]),
    )


def joined_emphasis(parts: Sequence[tuple[Tensor | None, Tensor]]) -> Tensor | None:
    """The emphasis [B or 1, Σ n] of joined tokens, from the (emphasis, tokens) of each; None where no token has any."""
    if all(emphasis is None for emphasis, _ in parts):
        return None
    rows = [tokens.new_ones(1, tokens.shape[1]) if emphasis is None else emphasis for emphasis, tokens in parts]
    batch = max(len(row) for row in rows)
    return torch.cat([row.expand(batch, -1) for row in rows], dim=1)
