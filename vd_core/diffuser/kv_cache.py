"""Keys and values of contexts, kept from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

KeysValues = tuple[Tensor, Tensor]  # of tokens, each [rows, heads, tokens, width / heads]


@dataclass
class KVCache:
    """What each context layer computes of one context's tokens alone, valid while tokens and weights stay.

    zero_evaluations: how many evaluations of a batch, the first ones, read zero tokens. Their keys and values
                      are zero, so the context has no rows for them: to the bit what rows of zeros give, with
                      less work.
    layers:           keys and values by the index of the context layer; filled where they are first needed.
    """

    zero_evaluations: int = 0
    layers: dict[int, KeysValues] = field(default_factory=dict)
