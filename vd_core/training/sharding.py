"""Divide weights, gradients, optimizer and average among processes.

Fully sharded data parallel, Zhao et al. 2023, by torch's FSDP2.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from . import distributed
from .diffuser import BLOCKS
from .loop import Group

Divided = TypeVar("Divided", bound=nn.Module)


class Sharding:
    """How the processes divide a diffuser: every one keeps its part of each weight, on its device.

    The weights of a block are gathered while it computes, those outside of blocks from the first to the last
    layer. Raises ValueError where there is nothing to divide, and for a torch that cannot.
    """

    def __init__(self, device: torch.device):
        if distributed.size() == 1:
            raise ValueError(
                "--shard divides the weights among several processes: start them by torchrun, or leave it "
                "out."
            )
        if device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
            raise ValueError(
                f"torch {torch.__version__} divides weights among GPUs only: install a newer one, or leave "
                "out --shard."
            )
        self.mesh = init_device_mesh(device.type, (distributed.size(),))

    def divide(self, module: Divided) -> Divided:
        """Return a divided copy of a whole module, which may be on the CPU."""
        parts = copy.deepcopy(module)
        for block in [layer for layer in parts.modules() if isinstance(layer, BLOCKS)]:
            fully_shard(block, mesh=self.mesh)
        fully_shard(parts, mesh=self.mesh)  # in place
        return parts

    def divide_groups(self, groups: Sequence[Group], module: nn.Module, parts: nn.Module) -> list[Group]:
        """Return the groups of a module's parameters in its divided copy."""
        twins = dict(zip(module.parameters(), parts.parameters(), strict=True))
        return [group._replace(parameters=[twins[p] for p in group.parameters]) for group in groups]

    def divide_state(self, state: dict, parameters: Sequence[nn.Parameter]) -> dict:
        """Divide an optimizer's whole state as its parameters are."""

        def part(value: Tensor, like: DTensor) -> Tensor:
            # the count of steps stays
            return distribute_tensor(value, like.device_mesh, like.placements) if value.ndim else value

        moments = {
            n: {name: part(value, parameters[n]) for name, value in entry.items()}
            for n, entry in state["state"].items()
        }
        return {**state, "state": moments}

    def gather_state(self, state: dict) -> dict:
        """Gather a nested state on the CPU of the first process; all must call it, the others get None."""
        return {
            key: self.gather_state(entry) if isinstance(entry, dict) else gather(entry)
            for key, entry in state.items()
        }


def gather(value: object) -> object:
    """Return the whole of a divided tensor, in the first process; anything else as it is."""
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if distributed.is_first() else None
