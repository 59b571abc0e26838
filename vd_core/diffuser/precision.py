"""Choose the type of weights with which this processor is fastest."""

from __future__ import annotations

import logging
from functools import cache
from time import perf_counter

import torch

log = logging.getLogger(__name__)
SIDE = 1024  # of the matrices whose product is timed
WORTH = 1.5  # how many times faster bfloat16 must be to be worth its error


@cache
def find_fastest_dtype() -> torch.dtype:
    """Return bfloat16 where this processor multiplies it much faster than float32, else float32.

    Measured once, which takes a few hundredths of a second; the log says what was found.
    """
    seconds = {dtype: time_product(dtype) for dtype in (torch.float32, torch.bfloat16)}
    times = seconds[torch.float32] / seconds[torch.bfloat16]
    chosen = torch.bfloat16 if times > WORTH else torch.float32
    log.info(
        "Weights become %s: this processor multiplies bfloat16 %.1f times as fast as float32.",
        str(chosen)[6:],
        times,
    )
    return chosen


def choose_dtype(name: str, device: str) -> torch.dtype:
    """Return the type of a name of `choices.DTYPES`; "auto" is the fastest on a CPU, float16 elsewhere.

    device: one that torch knows.
    """
    if name != "auto":
        return getattr(torch, name)
    return find_fastest_dtype() if torch.device(device).type == "cpu" else torch.float16


def time_product(dtype: torch.dtype) -> float:
    """Measure the shortest of five matrix products."""
    matrix = torch.ones(SIDE, SIDE, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(perf_counter() - start)
    return min(seconds)
