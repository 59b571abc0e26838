"""The order of the diffuser's layers, written down once.

Everything that follows the layers walks this plan: the constructors of the data and context layers, the only
forward pass (`model.py`) and the key maps of every foreign checkpoint layout (`checkpoints/key_maps.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import DiffuserConfig


@dataclass(frozen=True)
class Step:
    """One step of the walk.

    op:    "data" and "context" run a layer, "save" pushes the activation, "load" pops one and concatenates it
           behind the activation.
    index: number of the data layer or of the context layer; -1 for save and load.
    role:  of a data layer: "first", "res", "down", "up", "last"; else "".
    inputs, outputs: channels before and after a data layer; of a context layer, its width in both.
    stage: "in", "mid" or "out"; level: resolution level; block: number of the residual block in its level.
    """

    op: str
    index: int = -1
    role: str = ""
    inputs: int = 0
    outputs: int = 0
    stage: str = ""
    level: int = 0
    block: int = 0


def plan(config: DiffuserConfig) -> Iterator[Step]:
    """Yield the steps in order: 30 data and 16 context layers for VD v1.0 (official `layer_order`)."""
    widths = [config.model_channels * mult for mult in config.channel_mult]
    levels = range(len(widths))
    width, saved, data, context = config.model_channels, [], 0, 0

    def run(role: str, inputs: int, outputs: int, stage: str, level: int, block: int = 0) -> Step:
        nonlocal data, width
        data, width = data + 1, outputs
        return Step("data", data - 1, role, inputs, outputs, stage, level, block)

    def attend(stage: str, level: int, block: int = 0) -> Step:
        nonlocal context
        context += 1
        return Step("context", context - 1, "", width, width, stage, level, block)

    def save() -> Step:
        saved.append(width)
        return Step("save")

    yield run("first", 0, width, "in", 0)
    yield save()
    for level in levels:
        for block in range(config.num_res_blocks[level]):
            yield run("res", width, widths[level], "in", level, block)
            if config.attention[level]:
                yield attend("in", level, block)
            yield save()
        if level != levels[-1]:
            yield run("down", width, width, "in", level)
            yield save()

    yield run("res", width, width, "mid", levels[-1], 0)
    yield attend("mid", levels[-1])
    yield run("res", width, width, "mid", levels[-1], 1)

    for level in reversed(levels):
        for block in range(config.num_res_blocks[level] + 1):
            yield Step("load")
            yield run("res", width + saved.pop(), widths[level], "out", level, block)
            if config.attention[level]:
                yield attend("out", level, block)
        if level != 0:
            yield run("up", width, width, "out", level)
    yield run("last", width, 0, "out", 0)
