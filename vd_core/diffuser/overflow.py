"""Finds the layer where numbers stop being finite, once a result has shown that one does: a walk that goes well pays nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from .model import Diffuser

ROLES = {"first": "first", "res": "residual", "down": "downsampling", "up": "upsampling"}


def named_layers(diffuser: Diffuser, data: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a flow with names for people; blocks are numbered as Stable Diffusion numbers them."""
    block = {"in": 0, "mid": 0, "out": -1}
    for step in diffuser.plan:
        if step.op == "save":
            block["in"] += 1
        elif step.op == "load":
            block["out"] += 1
        elif step.role == "last":
            yield "The output layer", diffuser.data[data][step.index]
        elif step.op == "data":
            which = ("first ", "second ")[step.block] if step.stage == "mid" else ""
            yield f"{block_name(step.stage, block[step.stage])}'s {which}{ROLES[step.role]} layer", diffuser.data[data][step.index]
        else:
            for kind, layers in diffuser.context.items():
                yield f"{block_name(step.stage, block[step.stage])}'s {kind} context layer", layers[step.index]


def block_name(stage: str, number: int) -> str:
    """How a block is called."""
    return "The middle block" if stage == "mid" else f"{'Input' if stage == 'in' else 'Output'} block {number}"


def named_where_not_finite(run: Callable[[], Tensor], layers: Iterable[tuple[str, nn.Module]], *inputs: Tensor) -> Tensor:
    """The samples that `run` gives. Where they are not finite it runs once more, `watched`, and raises ValueError in any case."""
    samples = run()
    if samples.isfinite().all():
        return samples
    with watched(layers, *inputs):
        run()
    raise ValueError(
        f"The sampler made values that are not finite numbers in {samples.isfinite().logical_not().flatten(1).any(1).sum()} of "
        f"{len(samples)} samples ({samples.dtype}), though no layer did: cfg is far too high."
    )


@contextmanager
def watched(layers: Iterable[tuple[str, nn.Module]], *inputs: Tensor) -> Iterator[None]:
    """Inside, the first of these layers that gives a value that is not finite raises ValueError with its name.

    inputs: contexts and whatever else goes into the network. Raises ValueError at once for one that is not finite itself.
    """
    check_inputs(inputs)
    handles = [layer.register_forward_hook(partial(look, name)) for name, layer in layers]
    try:
        with uncompiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def uncompiled() -> AbstractContextManager:
    """Inside, nothing that torch compiled runs so: it would not see hooks that came later. Before torch 2.6 there is no such switch."""
    return torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext()


def check_inputs(inputs: Iterable[object]) -> None:
    """Raise ValueError for tensors that are not finite."""
    if not all(value.isfinite().all() for value in inputs if isinstance(value, Tensor)):
        raise ValueError(
            "What goes into the network is not finite: a picture, a mask, a latent or a context holds such values, or cfg is far too high."
        )


def look(name: str, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
    """Raise ValueError if a layer's output is not finite."""
    if output.isfinite().all():
        return
    check_inputs(inputs)
    value, dtype = "inf" if output.isinf().any() else "NaN", str(output.dtype).removeprefix("torch.")
    if output.dtype == torch.float16:
        advice = "load the model with weight_dtype bf16 or fp32, which hold larger numbers"
    else:
        advice = "its weights are damaged or a LoRA on it is far too strong; lower the LoRA's strength, or download the model again"
    raise ValueError(f"{name} gave {value} in {dtype}: {advice}.")
