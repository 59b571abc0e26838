"""Report numbers that are not finite: one sentence that names the part or layer that made them, and what to
do.

Unreported they would be black pictures or empty texts. Parts of an autoencoder check themselves whenever they
run. The diffuser is searched layer by layer only after a sample was not finite, so normal sampling costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Advice:
    """What to do about numbers that are not finite: in half precision, in other types, and where they came in
    from outside."""

    half: str
    other: str
    given: str


LAYERS = Advice(
    "load the model with weight_dtype bf16 or fp32, which hold larger numbers",
    "its weights are damaged or a LoRA on it is far too strong; lower the LoRA's strength, or download the "
    "model again",
    "What goes into the network is not finite: a picture, a mask, a latent or a context holds such values, "
    "or cfg is far too high.",
)
AUTOENCODERS = Advice(
    "compute it in a larger type (in ComfyUI: --fp32-vae --force-fp32)",
    "its weights are damaged; download the model again",
    "{name} got numbers that are not finite: the picture, the text latent or the latent before it holds NaN "
    "or inf.",
)
PARTS = {
    "encoder": "encoder",
    "quant_conv": "encoder's last layer",
    "post_quant_conv": "decoder's first layer",
    "decoder": "decoder",
}


def check_finite(
    name: str, output: Tensor, given: Iterable[object] = (), advice: Advice = AUTOENCODERS
) -> None:
    """Raise ValueError if the output of what is called `name` is not finite: because of what it was given, or
    of itself."""
    if output.isfinite().all():
        return
    check_given(given, advice.given.format(name=name))
    value, dtype = "inf" if output.isinf().any() else "NaN", str(output.dtype).removeprefix("torch.")
    raise ValueError(
        f"{name} gave {value} in {dtype}: {advice.half if dtype == 'float16' else advice.other}."
    )


def check_given(given: Iterable[object], sentence: str) -> None:
    """Raise ValueError with a sentence where a tensor among what was given is not finite."""
    if not all(value.isfinite().all() for value in given if isinstance(value, Tensor)):
        raise ValueError(sentence)


def check_layer(name: str, advice: Advice, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
    """Check what a layer makes: a forward hook."""
    check_finite(name, output, inputs, advice)


def guard(autoencoder: nn.Module) -> None:
    """Let every part of an AutoencoderKL, this package's or ComfyUI's, raise ValueError for values that are
    not finite."""
    for key, name in PARTS.items():
        hook = partial(check_layer, f"The image autoencoder's {name}", AUTOENCODERS)
        autoencoder.get_submodule(key).register_forward_hook(hook)


def check_samples(
    samples: Tensor, again: Callable[[], object], layers: Iterable[tuple[str, nn.Module]], *inputs: Tensor
) -> None:
    """Raise ValueError for samples that are not finite, with the name of the layer where that begins.

    again:  samples once more, to see in which of these layers it begins.
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
    check_given(inputs, LAYERS.given)
    handles = [layer.register_forward_hook(partial(check_layer, name, LAYERS)) for name, layer in layers]
    try:
        with run_uncompiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def run_uncompiled() -> AbstractContextManager:
    """Run what torch compiled as it was written: compiled code does not see hooks that came later. Before
    torch 2.6 there is no such switch."""
    return (
        torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext()
    )
