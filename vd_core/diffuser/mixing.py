"""How several contexts act on one activation (VD paper, section 3.3): attention-level and layer-level mixing.

A mixing is a function `mix(h, layers, shares)` with one layer and one share per context. Predictions are
never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .layers import repeat

Layer = Callable[[Tensor], Tensor]  # h -> h, under one context
Share = float | Tensor  # a number, or a map [1 or B, 1, height, width] of any size; all add up to 1
Mixing = Callable[[Tensor, Sequence[Layer], Sequence[Share]], Tensor]


def attention_mixing(h: Tensor, layers: Sequence[Layer], shares: Sequence[Share]) -> Tensor:
    """Compute Σ share_i · layer_i(h): whole transformer outputs are mixed, each with its own self-attention
    and residual.

    A share that is a map mixes each place of h [B, C, h, w] on its own. A context with share 0 is not run.
    """
    mixed: Tensor | None = None
    for layer, share in zip(layers, shares, strict=True):
        if is_number(share, 1):
            return layer(h)
        if not is_number(share, 0):
            weighed = weigh(layer(h), share)
            mixed = weighed if mixed is None else mixed + weighed
    if mixed is None:
        raise ValueError("At least one context must have a share above 0.")
    return mixed


def is_number(share: Share, number: float) -> bool:
    """Tell whether a share is that number, everywhere and known without looking into a map."""
    return not isinstance(share, Tensor) and share == number


def weigh(h: Tensor, share: Share) -> Tensor:
    """Multiply h [B, C, h, w] by a share: maps are averaged over each place and repeated for the evaluations
    of a batch."""
    if not isinstance(share, Tensor):
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

    def mix(h: Tensor, layers: Sequence[Layer], shares: Sequence[Share]) -> Tensor:
        numbers = [share for share in shares if not isinstance(share, Tensor)]
        if len(numbers) < len(shares):
            raise ValueError(
                "Layer mixing draws one context for a whole layer, so its contexts cannot have regions with "
                "masks."
            )
        return layers[random.choice(len(layers), p=numbers)](h)

    return mix
