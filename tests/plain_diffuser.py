"""The slow path: a diffuser called with everything written out."""

from collections.abc import Callable

import torch
from torch import Tensor

from vd_core.diffuser.mixing import Mixing
from vd_core.diffuser.model import Reading


def plainly(diffuser: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Each evaluation gets its own samples and rows of tokens, zeros too, and all layers; nothing is shared and nothing remembered."""

    def predict(
        x: Tensor, t: Tensor, readings: list[Reading], data: str, evaluations: int = 1, **options: Mixing
    ) -> Tensor:
        timesteps = t.expand(len(x)).repeat(evaluations)
        return diffuser(torch.cat([x] * evaluations), timesteps, [row_by_row(r, evaluations, len(x)) for r in readings], data, **options)

    return predict


def row_by_row(reading: Reading, evaluations: int, batch: int) -> Reading:
    """A reading with a row of tokens for every sample of every evaluation."""
    samples, silent = evaluations * batch, reading.silent * batch

    def rows(part: Tensor) -> Tensor:
        return part.repeat_interleave((samples - silent) // len(part), dim=0)

    zeros = reading.tokens.new_zeros(silent, *reading.tokens.shape[1:])
    ones = reading.tokens.new_ones(silent, reading.tokens.shape[1])
    emphasis = None if reading.emphasis is None else torch.cat([ones, rows(reading.emphasis)])
    return Reading(reading.kind, torch.cat([zeros, rows(reading.tokens)]), reading.ratio, emphasis)
