"""Names of the diffuser's layers for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import nn

from .model import Diffuser

ROLES = {"first": "first", "res": "residual", "down": "downsampling", "up": "upsampling"}


def name_layers(diffuser: Diffuser, data: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a flow with their names; blocks are numbered as Stable Diffusion numbers them."""
    layers = cast(nn.ModuleList, diffuser.data[data])
    block = {"in": 0, "mid": 0, "out": -1}
    for step in diffuser.plan:
        if step.op == "save":
            block["in"] += 1
        elif step.op == "load":
            block["out"] += 1
        elif step.role == "last":
            yield "The output layer", layers[step.index]
        else:
            name = name_block(step.stage, block[step.stage])
            if step.op == "context":
                for kind in diffuser.context:
                    yield f"{name}'s {kind} context layer", diffuser.context_layer(kind, step.index)
            else:
                which = ("first ", "second ")[step.block] if step.stage == "mid" else ""
                yield f"{name}'s {which}{ROLES[step.role]} layer", layers[step.index]


def name_block(stage: str, number: int) -> str:
    """Name a block by its stage, "in", "mid" or "out", and its number there."""
    return (
        "The middle block" if stage == "mid" else f"{'Input' if stage == 'in' else 'Output'} block {number}"
    )
