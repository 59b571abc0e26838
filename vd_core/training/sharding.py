"""Weights, gradients, optimizer and average divided among the processes (fully sharded data parallel, Zhao et al. 2023; torch's FSDP2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from . import distributed
from .diffuser import BLOCKS
from .loop import Group


class Sharding:
    """How the processes divide a diffuser: every one keeps its part of each weight, on its device.

    The weights of a block are put together while it computes, those outside of blocks from the first to the last layer.
    Raises ValueError where there is nothing to divide, and for a torch that cannot.
    """

    def __init__(self, device: torch.device):
        if distributed.size() == 1:
            raise ValueError("--shard divides the weights among several processes: start them by torchrun, or leave it out.")
        if device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
            raise ValueError(f"torch {torch.__version__} divides weights among GPUs only: install a newer one, or leave out --shard.")
        self.mesh = init_device_mesh(device.type, (distributed.size(),))

    def divided(self, module: nn.Module) -> nn.Module:
        """A copy of a whole module, which may be on the CPU."""
        parts = copy.deepcopy(module)
        for block in [layer for layer in parts.modules() if isinstance(layer, BLOCKS)]:
            fully_shard(block, mesh=self.mesh)
        return fully_shard(parts, mesh=self.mesh)

    def groups(self, groups: Sequence[Group], module: nn.Module, parts: nn.Module) -> list[Group]:
        """Groups of a module's parameters in its divided copy."""
        twins = dict(zip(module.parameters(), parts.parameters(), strict=True))
        return [group._replace(parameters=[twins[p] for p in group.parameters]) for group in groups]

    def divided_state(self, state: dict, parameters: Sequence[nn.Parameter]) -> dict:
        """An optimizer's whole state, divided as its parameters are."""

        def part(value: Tensor, like: DTensor) -> Tensor:
            return distribute_tensor(value, like.device_mesh, like.placements) if value.ndim else value  # the count of steps stays

        moments = {n: {name: part(value, parameters[n]) for name, value in entry.items()} for n, entry in state["state"].items()}
        return {**state, "state": moments}

    def whole_state(self, state: dict) -> dict:
        """A state, nested, put together on the CPU of the first process; the others, which must call it too, get None for tensors."""
        return {key: self.whole_state(entry) if isinstance(entry, dict) else together(entry) for key, entry in state.items()}


def together(value):
    """The whole of a divided tensor, in the first process; anything else as it is."""
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if distributed.is_first() else None
