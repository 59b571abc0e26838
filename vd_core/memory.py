"""What to do where there is not enough memory. In ComfyUI, which manages memory itself, none of this is
used."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor


def check_room(what: str, needed: int) -> None:
    """Raise ValueError for what needs more bytes than this machine has, before it is tried: the system would
    end the process instead."""
    # not known on Windows
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > installed:
        raise ValueError(
            f"{what} needs {needed >> 30} GB of memory or more, this machine has {installed >> 30} GB: "
            "choose a smaller size or batch."
        )


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether torch or Python found no memory; on a CPU torch says so with a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)


def run_in_parts(work: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Return what work makes of a batch, sample by sample; where there is no memory for all at once, of its
    halves."""
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
    return torch.cat(
        [run_in_parts(work, half) for half in batch.chunk(2)]
    )  # here what was taken is free again
