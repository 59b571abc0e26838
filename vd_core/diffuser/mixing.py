"""How several contexts act on one activation (VD paper, section 3.3): attention-level and layer-level mixing.

A mixing takes the context layers' outputs apart from their number: `mix(h, layers, contexts)` with one layer and one
(tokens, ratio) per context. There is no mixing of predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

Mixing = Callable[[Tensor, Sequence[nn.Module], Sequence[tuple[Tensor, float]]], Tensor]


def attention_mixing(h: Tensor, layers: Sequence[nn.Module], contexts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Σ ratio_i · layer_i(h, tokens_i): whole transformer outputs are mixed, each with its own self-attention and residual.

    A context with ratio 0 is not run.
    """
    outputs = [(layer, tokens, ratio) for layer, (tokens, ratio) in zip(layers, contexts, strict=True) if ratio != 0]
    if len(outputs) == 1 and outputs[0][2] == 1:
        return outputs[0][0](h, outputs[0][1])
    return sum(layer(h, tokens) * ratio for layer, tokens, ratio in outputs)


def layer_mixing(seed: int) -> Mixing:
    """One context per layer, drawn with its ratio as probability. A new mixing draws the same sequence for the same seed.

    Any integer is a seed; it counts modulo 2**32.
    """
    # Quirk kept: the legacy generator's `choice`, so that draws equal the official `numpy.random.seed(seed)`.
    random = np.random.RandomState(seed % 2**32)

    def mix(h: Tensor, layers: Sequence[nn.Module], contexts: Sequence[tuple[Tensor, float]]) -> Tensor:
        chosen = random.choice(len(contexts), p=[ratio for _, ratio in contexts])
        return layers[chosen](h, contexts[chosen][0])

    return mix
