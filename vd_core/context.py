"""What conditions a sample: contexts, and the few things that can be done with them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """One condition.

    kind:   names the context layers that read it ("text", "image", …).
    tokens: [B or 1, n, d].
    null:   the unconditional tokens for classifier-free guidance, [B or 1, n, d]; None means zeros.
    weight: share in a blend, relative to the other contexts of the list.
    """

    kind: str
    tokens: Tensor
    null: Tensor | None = None
    weight: float = 1.0

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

    @property
    def unconditional(self) -> Tensor:
        """The unconditional tokens, [B or 1, n, d]."""
        return torch.zeros_like(self.tokens) if self.null is None else self.null


Blend = list[Context]


def ratios(contexts: Blend) -> list[float]:
    """The weights divided by their sum. Raises ValueError when there is no context or all weights are 0."""
    total = sum(context.weight for context in contexts)
    if total <= 0:
        raise ValueError("A blend needs at least one context with a weight above 0.")
    return [context.weight / total for context in contexts]


def blend(first: Blend, second: Blend, ratio: float) -> Blend:
    """`ratio` (0..1) of `second` and the rest of `first`; chains multiply through. A side with no share is left out."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"The ratio of a blend lies between 0 and 1, got {ratio}.")
    sides = [(first, 1 - ratio), (second, ratio)]
    return [replace(c, weight=r * share) for side, share in sides if share > 0 for c, r in zip(side, ratios(side), strict=True)]


def join(contexts: Blend) -> Context:
    """Several contexts of one kind as one, joined along the tokens; the weights scale the tokens.

    This is how the official app takes several images: they share one softmax, and no weight is normalised.
    The unconditional tokens are joined unscaled. Raises ValueError for contexts that do not fit together.
    """
    kinds = {context.kind for context in contexts}
    if len(kinds) != 1:
        raise ValueError(f"Only contexts of one kind can be joined along their tokens, got {sorted(kinds)}.")
    batch = max(c.tokens.shape[0] for c in contexts)
    if any(c.tokens.shape[0] not in (1, batch) or c.tokens.shape[2] != contexts[0].tokens.shape[2] for c in contexts):
        raise ValueError(f"Joined contexts need one batch size and one width, got shapes {[tuple(c.tokens.shape) for c in contexts]}.")

    def expand(tokens: Tensor) -> Tensor:
        return tokens.expand(batch, -1, -1)

    null = None
    if any(c.null is not None for c in contexts):
        null = torch.cat([expand(c.unconditional) for c in contexts], dim=1)
    return Context(kinds.pop(), torch.cat([expand(c.tokens * c.weight) for c in contexts], dim=1), null)
