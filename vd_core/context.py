"""Contexts, which condition a sample: check, blend, join and average them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from .placement import check_not_meta
from .regions import Region

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Context:
    """One condition, from the encoder to the layer that reads it.

    kind:          names the context layers that read it ("text", "image", …).
    tokens:        [B or 1, n, d].
    null:          the unconditional tokens for classifier-free guidance, [B or 1, n, d]; None means zeros.
    weight:        share in a blend, relative to the other contexts of the list.
    region:        where and when it acts; None = everywhere and always.
    guidance:      how strongly it guides, relative to the guidance scale of the sampler; 1 = as the others.
    token_weights: how often each token counts in the attention, [B or 1, n]: 0 removes it, 2 doubles it; None
                   = once. At least one must be above 0. `null_token_weights` are those of the unconditional
                   tokens.
    """

    kind: str
    tokens: Tensor
    null: Tensor | None = None
    weight: float = 1.0
    region: Region | None = None
    guidance: float = 1.0
    token_weights: Tensor | None = None
    null_token_weights: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "null", "token_weights", "null_token_weights"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) and (value is not None or name == "tokens"):
                raise ValueError(
                    f"The {name} of a {self.kind} context must be a torch tensor, got "
                    f"{type(value).__name__}: torch.as_tensor makes one of an array."
                )
            if value is not None and not value.is_floating_point():
                raise ValueError(
                    f"The {name} of a {self.kind} context must be floating point numbers, got {value.dtype}."
                )
        if not isinstance(self.kind, str):
            raise ValueError(f"The kind of a context is a name such as text or image, got {self.kind!r}.")
        if self.region is not None and not isinstance(self.region, Region):
            raise ValueError(
                f"The region of a {self.kind} context must be a Region, got {type(self.region).__name__}."
            )
        if self.tokens.ndim != 3 or 0 in self.tokens.shape:
            raise ValueError(
                f"A {self.kind} context needs tokens [batch, tokens, width], got shape "
                f"{tuple(self.tokens.shape)}."
            )
        if self.null is not None and (
            self.null.shape[1:] != self.tokens.shape[1:]
            or len({1, self.null.shape[0], self.tokens.shape[0]}) > 2
        ):
            raise ValueError(
                f"A {self.kind} context has tokens {list(self.tokens.shape)} and unconditional tokens "
                f"{list(self.null.shape)}, which do not fit together: take both from one model."
            )
        for name in ("weight", "guidance"):
            number = getattr(self, name)
            if not isinstance(number, Real) or not 0 <= float(number) < float("inf"):
                raise ValueError(f"The {name} of a {self.kind} context must be a number ≥ 0, got {number!r}.")
        for weights in (self.token_weights, self.null_token_weights):
            if weights is None:
                continue
            if weights.ndim != 2 or weights.shape[1] != self.tokens.shape[1]:
                raise ValueError(
                    f"The weights of a {self.kind} context's tokens must be one per token, [batch, "
                    f"{self.tokens.shape[1]}], got {list(weights.shape)}."
                )
            check_not_meta(weights, f"The weights of a {self.kind} context's tokens are")
            if not (weights.isfinite().all() and (weights >= 0).all() and weights.any(dim=1).all()):
                raise ValueError(
                    f"The weights of a {self.kind} context's tokens must be numbers ≥ 0, and not 0 for all "
                    "of them."
                )

    @property
    def unconditional(self) -> Tensor:
        """The unconditional tokens, [B or 1, n, d]."""
        return torch.zeros_like(self.tokens) if self.null is None else self.null

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Context:
        """Move tokens and token weights, conditional and unconditional ones, to a device and a type."""
        names = ("tokens", "null", "token_weights", "null_token_weights")
        found = {name: tensor for name in names if (tensor := getattr(self, name)) is not None}
        return replace(
            self, **{name: tensor.to(device=device, dtype=dtype) for name, tensor in found.items()}
        )


Blend = list[Context]

LARGEST_NORM = 8.0  # of tokens, on average: CLIP's have about 1, and about 10 before they are divided
# What to do about larger ones, by kind.
NORMALISE = {
    "image": "divide each sample by the norm of its first token, as normalise=True of load_context, "
    "--normalise of reconstruct and the switch normalise of Load Context (VD) do",
    "text": "divide each sample by the norm of its end token, which docs/embeddings.md tells how to find",
}


def check_norm(name: str, kind: str, norm: float) -> None:
    """Refuse tokens of pictures whose mean norm is far above 1; other large ones are warned of only.

    Encoders other than CLIP may make the latter: SeeCoder's end in a LayerNorm. name: what they are called.
    Raises ValueError.
    """
    if not norm > LARGEST_NORM:  # NaN is what others look for
        return
    advice = NORMALISE.get(kind, "divide each sample by the norm of one of its tokens")
    sentence = f"The {name} have a mean norm of {norm:.3g}, where CLIP's have about 1: {advice}."
    if kind == "image":
        raise ValueError(sentence)
    log.warning("%s", sentence)


def check_tokens(context: Context) -> None:
    """Raise ValueError for tokens that are not finite, and for those of pictures that were not normalised."""
    for name, tokens in (("tokens", context.tokens), ("unconditional tokens", context.null)):
        if tokens is None:
            continue
        check_not_meta(tokens, f"The {name} of the {context.kind} context are")
        if not tokens.isfinite().all():
            raise ValueError(f"The {name} of the {context.kind} context hold NaN or inf.")
        norm = float(tokens.detach().float().norm(dim=-1).mean(dim=1).max())
        check_norm(f"{name} of the {context.kind} context", context.kind, norm)


def compute_ratios(contexts: Sequence[Context]) -> list[float]:
    """Divide the weights by their sum. Raises ValueError when there is no context or all weights are 0."""
    total = sum(context.weight for context in contexts)
    if total <= 0:
        raise ValueError("A blend needs at least one context with a weight above 0.")
    return [context.weight / total for context in contexts]


def list_contexts(contexts: Context | Blend) -> Blend:
    """Return one or several contexts as a list. Raises ValueError for what are no contexts."""
    several = [contexts] if isinstance(contexts, Context) else contexts
    if not isinstance(several, list | tuple) or not all(isinstance(each, Context) for each in several):
        raise ValueError(f"contexts must be a Context or a list of them, got {type(contexts).__name__}.")
    return list(several)


def blend(first: Context | Blend, second: Context | Blend, ratio: float) -> Blend:
    """Blend `ratio` (0..1) of `second` with 1 - ratio of `first`; a side with no share is left out.

    Each side is a context or a list of them. Raises ValueError for another ratio, and what are no contexts.
    """
    if not isinstance(ratio, Real) or not 0 <= ratio <= 1:
        raise ValueError(f"The ratio of a blend lies between 0 and 1, got {ratio!r}.")
    sides = [(list_contexts(first), 1 - ratio), (list_contexts(second), ratio)]
    return [
        replace(c, weight=r * share)
        for side, share in sides
        if share > 0
        for c, r in zip(side, compute_ratios(side), strict=True)
    ]


def join(contexts: Blend) -> Context:
    """Join contexts of one kind into one, their tokens side by side; the weights scale the tokens.

    This is how the official app takes several images: they share one softmax, and no weight is normalised.
    The unconditional tokens are joined unscaled. Raises ValueError for contexts that do not fit together, or
    have a region or a guidance.
    """
    contexts = list_contexts(contexts)
    kind = check_joinable(contexts)
    return Context(
        kind,
        concatenate([c.tokens * c.weight for c in contexts]),
        concatenate([c.unconditional for c in contexts])
        if any(c.null is not None for c in contexts)
        else None,
        token_weights=concatenate_weights([(c.token_weights, c.tokens) for c in contexts]),
        null_token_weights=concatenate_weights([(c.null_token_weights, c.tokens) for c in contexts]),
    )


def average(first: Context, second: Context, share: float) -> Context:
    """Average two contexts of one kind, token by token: `share` (0..1) of the second, zeros where one ends.

    Raises ValueError for contexts that do not fit together, or have a region, a guidance or token weights.
    """
    kind = check_joinable([first, second])
    if any(w is not None for c in (first, second) for w in (c.token_weights, c.null_token_weights)):
        raise ValueError(
            "Prompts with weights, as in (word:1.5), cannot be averaged: concatenate them, or take the "
            "weights out."
        )
    batch = find_batch([first.tokens, second.tokens])
    count = max(first.tokens.shape[1], second.tokens.shape[1])

    def mean(one: Tensor, other: Tensor) -> Tensor:
        start, end = (
            concatenate([x, x.new_zeros(batch, count - x.shape[1], x.shape[2])]) for x in (one, other)
        )
        return torch.lerp(start, end, share)

    has_null = first.null is not None or second.null is not None
    null = mean(first.unconditional, second.unconditional) if has_null else None
    return Context(kind, mean(first.tokens, second.tokens), null)


def check_joinable(contexts: Blend) -> str:
    """Return the one kind of contexts without regions and guidance. Raises ValueError for others."""
    kinds = sorted({context.kind for context in contexts})
    if len(kinds) != 1:
        raise ValueError(
            f"Only contexts of one kind can be joined, got {' and '.join(kinds) or 'none'}: blend them "
            "instead."
        )
    if any(context.region or context.guidance != 1 for context in contexts):
        raise ValueError(
            "A context with a region or a guidance of its own cannot be joined: join first, or blend them."
        )
    places = sorted({str(context.tokens.device) for context in contexts})
    if len(places) > 1:
        raise ValueError(
            f"Contexts on {' and '.join(places)} cannot be joined: move them with context.to first."
        )
    return kinds[0]


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Put tokens [B or 1, n_i, d], or their weights [B or 1, n_i], side by side: [B, Σ n_i, …]. Raises
    ValueError where widths or numbers of samples differ."""
    batch = find_batch(parts)
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in parts], dim=1)


def find_batch(parts: Sequence[Tensor]) -> int:
    """Return the number of samples B that tokens [B or 1, n_i, d], or their weights, have together. Raises
    ValueError where widths or numbers of samples differ."""
    batch, width = max(len(part) for part in parts), parts[0].shape[2:]
    for part in parts:
        if part.shape[2:] != width:
            widths = f"{width[0]} and {part.shape[2]}"
            raise ValueError(
                f"Contexts of widths {widths} cannot be put together: they come from different models."
            )
        if len(part) not in (1, batch):
            samples = f"{len(part)} and of {batch}"
            raise ValueError(
                f"Contexts of {samples} samples cannot be put together: use one, or as many of each."
            )
    return batch


def concatenate_weights(parts: Sequence[tuple[Tensor | None, Tensor]]) -> Tensor | None:
    """Put token weights side by side, from (weights, tokens) of each: [B or 1, Σ n]; None for none."""
    if all(weights is None for weights, _ in parts):
        return None
    return concatenate([tokens.new_ones(1, tokens.shape[1]) if w is None else w for w, tokens in parts])
