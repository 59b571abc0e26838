"""How several contexts act on one activation (VD paper, section 3.3): attention-level and layer-level mixing.

A mixing takes the context layers' outputs apart from their number: `mix(h, layers, contexts)` with one layer and one
(tokens, ratio) per context. There is no mixing of predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .layers import repeat

Layer = Callable[[Tensor, Tensor], Tensor]  # (h, tokens) -> h
Ratio = float | Tensor  # a number, or a map [1 or B, 1, height, width] of any size
Mixing = Callable[[Tensor, Sequence[Layer], Sequence[tuple[Tensor, Ratio]]], Tensor]


def attention_mixing(h: Tensor, layers: Sequence[Layer], contexts: Sequence[tuple[Tensor, Ratio]]) -> Tensor:
    """Σ ratio_i · layer_i(h, tokens_i): whole transformer outputs are mixed, each with its own self-attention and residual.

    A ratio that is a map mixes each place of h [B, C, h, w] on its own. A context with ratio 0 is not run.
    """
    acting = [(layer, tokens, ratio) for layer, (tokens, ratio) in zip(layers, contexts, strict=True) if not is_number(ratio, 0)]
    if len(acting) == 1 and is_number(acting[0][2], 1):
        return acting[0][0](h, acting[0][1])
    return sum(weigh(layer(h, tokens), ratio) for layer, tokens, ratio in acting)


def is_number(ratio: Ratio, number: float) -> bool:
    """Whether a ratio is that number, everywhere and known without looking into a map."""
    return not isinstance(ratio, Tensor) and ratio == number


def weigh(h: Tensor, ratio: Ratio) -> Tensor:
    """h [B, C, h, w] times a ratio: maps are averaged over each place and repeated for the evaluations of a batch."""
    if not isinstance(ratio, Tensor):
        return h * ratio
    shares = F.adaptive_avg_pool2d(ratio, h.shape[2:]).to(h)
    return h * (shares if len(shares) == 1 else repeat(shares, len(h) // len(shares)))


def layer_mixing(seed: int) -> Mixing:
    """One context per layer, drawn with its ratio as probability. A new mixing draws the same sequence for the same seed.

    Any integer is a seed; it counts modulo 2**32.
    """
    # Quirk kept: the legacy generator's `choice`, so that draws equal the official `numpy.random.seed(seed)`.
    random = np.random.RandomState(seed % 2**32)

    def mix(h: Tensor, layers: Sequence[Layer], contexts: Sequence[tuple[Tensor, Ratio]]) -> Tensor:
        if any(isinstance(ratio, Tensor) for _, ratio in contexts):
            raise ValueError("Layer mixing draws one context for a whole layer, so its contexts cannot have regions with masks.")
        chosen = random.choice(len(contexts), p=[ratio for _, ratio in contexts])
        return layers[chosen](h, contexts[chosen][0])

    return mix
