"""How several contexts act on one activation (VD paper, section 3.3): attention-level and layer-level mixing.

A mixing is a function `choose(layers, shares)` of one layer and one share per context. It chooses the layers
that run, each with its share of their sum, which `add_share` makes; None stands for a layer that runs alone.
Predictions are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .layers import repeat

Layer = Callable[[Tensor], Tensor]  # h -> h, under one context
Share = float | Tensor  # a number, or a map [1 or B, 1, height, width] of any size; all add up to 1
Mixing = Callable[[Sequence[Layer], Sequence[Share]], Sequence[tuple[Layer, Share | None]]]
Reader = TypeVar("Reader")  # a layer, or whatever else stands for a context


def attention_mixing(
    readers: Sequence[Reader], shares: Sequence[Share]
) -> list[tuple[Reader, Share]] | list[tuple[Reader, None]]:
    """Choose all layers: Σ share_i · layer_i(h). Whole transformer outputs are mixed, each with its own
    self-attention and residual.

    A context with share 0 is not run. Raises ValueError where none is left.
    """
    acting = []
    for reader, share in zip(readers, shares, strict=True):
        if is_number(share, 1):
            return [(reader, None)]
        if not is_number(share, 0):
            acting.append((reader, share))
    if not acting:
        raise ValueError("At least one context must have a share above 0.")
    return acting


def add_share(mixed: Tensor | None, output: Tensor, share: Share | None) -> Tensor:
    """Add a layer's output [B, C, h, w], weighed by its share, to the sum of those before it; None before the
    first. A share that is a map weighs each place on its own."""
    weighed = output if share is None else weigh(output, share)
    return weighed if mixed is None else mixed + weighed


def is_number(share: Share, number: float) -> bool:
    """Tell whether a share is that number, everywhere and known without looking into a map."""
    return not isinstance(share, Tensor) and share == number


def weigh(h: Tensor, share: Share) -> Tensor:
    """Multiply h [B, C, h, w] by a share: maps are averaged over each place and repeated for the evaluations
    of a batch."""
    if not isinstance(share, Tensor) or share.ndim == 0:
        return h * share
    maps = F.adaptive_avg_pool2d(share, (h.shape[2], h.shape[3])).to(h)
    return h * (maps if len(maps) == 1 else repeat(maps, len(h) // len(maps)))


def layer_mixing(seed: int) -> Mixing:
    """Make a mixing that runs one context per layer, drawn with its share as probability. It draws the same
    sequence for the same seed.

    Any integer is a seed; it counts modulo 2**32.
    """
    # Quirk kept: the legacy generator's `choice`, so that draws equal the official `numpy.random.seed(seed)`.
    random = np.random.RandomState(seed % 2**32)

    def choose(layers: Sequence[Layer], shares: Sequence[Share]) -> list[tuple[Layer, None]]:
        numbers = [share for share in shares if not isinstance(share, Tensor)]
        if len(numbers) < len(shares):
            raise ValueError(
                "Layer mixing draws one context for a whole layer, so its contexts cannot have regions with "
                "masks."
            )
        return [(layers[random.choice(len(layers), p=numbers)], None)]

    return choose
