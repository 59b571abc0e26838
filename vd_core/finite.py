"""Report numbers that are not finite, in one sentence that names the part or layer that made them.

Unreported they would be black pictures or empty texts. Parts of an autoencoder are checked whenever they run.
The diffuser is searched layer by layer only after a sample was not finite, so normal sampling costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

PARTS = {
    "encoder": "encoder",
    "quant_conv": "encoder's last layer",
    "post_quant_conv": "decoder's first layer",
    "decoder": "decoder",
}


def check_finite(name: str, output: Tensor, given: Iterable[object] = ()) -> None:
    """Raise ValueError where a part of an autoencoder makes values that are not finite, or was given such.

    name: of the part. given: what went into it.
    """
    if output.isfinite().all():
        return
    if not all_finite(given):
        raise ValueError(
            f"{name} got numbers that are not finite: the picture, the text latent or the latent before it "
            "holds NaN or inf."
        )
    advice = (
        "compute it in a larger type (in ComfyUI: --fp32-vae --force-fp32)"
        if output.dtype == torch.float16
        else "its weights are damaged; download the model again"
    )
    raise ValueError(f"{name} gave {describe_fault(output)}: {advice}.")


def check_layer(name: str, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
    """Raise ValueError where a layer of a diffuser makes values that are not finite: a forward hook."""
    if output.isfinite().all():
        return
    check_inputs(inputs)
    advice = (
        "load the model with weight_dtype bf16 or fp32, which hold larger numbers"
        if output.dtype == torch.float16
        else "its weights are damaged or a LoRA on it is far too strong; lower the LoRA's strength, or "
        "download the model again"
    )
    raise ValueError(f"{name} gave {describe_fault(output)}: {advice}.")


def check_inputs(inputs: Iterable[object]) -> None:
    """Raise ValueError where what goes into a diffuser is not finite."""
    if not all_finite(inputs):
        raise ValueError(
            "What goes into the network is not finite: a picture, a mask, a latent or a context holds such "
            "values, or cfg is far too high."
        )


def all_finite(values: Iterable[object]) -> bool:
    """Tell whether all tensors among some values are finite."""
    return all(value.isfinite().all() for value in values if isinstance(value, Tensor))


def describe_fault(output: Tensor) -> str:
    """Say which value an output holds, and its type: "inf in float16"."""
    value = "inf" if output.isinf().any() else "NaN"
    return f"{value} in {str(output.dtype).removeprefix('torch.')}"


def guard(autoencoder: nn.Module) -> None:
    """Let every part of an AutoencoderKL, this package's or ComfyUI's, check itself with `check_finite`."""

    def check_part(name: str, part: nn.Module, inputs: tuple, output: Tensor) -> None:
        check_finite(name, output, inputs)

    for key, name in PARTS.items():
        hook = partial(check_part, f"The image autoencoder's {name}")
        autoencoder.get_submodule(key).register_forward_hook(hook)


def check_samples(
    samples: Tensor, again: Callable[[], object], layers: Iterable[tuple[str, nn.Module]], *inputs: Tensor
) -> None:
    """Raise ValueError for samples that are not finite, with the name of the layer where that begins.

    again:  samples once more, to find that layer among `layers`.
    inputs: contexts and whatever else goes into the network.
    """
    if samples.isfinite().all():
        return
    with watch(layers, *inputs):
        again()
    bad = samples.isfinite().logical_not().flatten(1).any(1).sum()
    raise ValueError(
        f"The sampler made values that are not finite numbers in {bad} of {len(samples)} samples "
        f"({samples.dtype}), though no layer did: cfg is far too high."
    )


@contextmanager
def watch(layers: Iterable[tuple[str, nn.Module]], *inputs: Tensor) -> Iterator[None]:
    """Let the first of these layers that gives a value that is not finite raise ValueError with its name.

    Raises ValueError at once where an input is not finite itself.
    """
    check_inputs(inputs)
    handles = [layer.register_forward_hook(partial(check_layer, name)) for name, layer in layers]
    try:
        with torch.compiler.set_stance("force_eager"):  # compiled code does not see later hooks
            yield
    finally:
        for handle in handles:
            handle.remove()
