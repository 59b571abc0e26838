"""What is done without ComfyUI, which manages memory itself, when there is not enough."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def out_of_memory(error: Exception) -> bool:
    """Whether torch or Python found no memory; on a CPU torch says so with a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def in_parts(work: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """What work makes of a batch, sample by sample; where there is no memory for all at once, of its halves."""
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not out_of_memory(error):
            raise
    return torch.cat([in_parts(work, half) for half in batch.chunk(2)])  # here what was taken is free again
