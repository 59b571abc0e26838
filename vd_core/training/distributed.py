"""Data parallel training under `torchrun`: every process holds the whole model and a share of each batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist


def start(device: str) -> torch.device:
    """Join the processes that torchrun started, if it did, and return this one's device."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return torch.device(device)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # The others wait while the first one encodes the data, which may take hours.
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(days=1))
    return torch.device(device)


def end() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this process is the one that writes files and speaks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait() -> None:
    """Barrier: wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def share(batch: int) -> slice:
    """Return this process's rows of a batch that all draw. Raises ValueError when it cannot be shared."""
    each, rest = divmod(batch, size())
    if rest or not each:
        raise ValueError(
            f"A batch of {batch} cannot be shared by {size()} processes: choose a multiple of {size()}."
        )
    first = dist.get_rank() * each if dist.is_initialized() else 0
    return slice(first, first + each)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, which must give the same ones in the same order."""
    if size() > 1:
        tensors = list(tensors)
        for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
            work.wait()
        for tensor in tensors:
            tensor.div_(size())
