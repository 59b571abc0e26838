"""Numbers that are not finite, which would be black pictures or no texts, end in a sentence that names the part that made them."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

PARTS = {"encoder": "encoder", "quant_conv": "encoder's last layer", "post_quant_conv": "decoder's first layer", "decoder": "decoder"}


def guard(autoencoder: nn.Module) -> None:
    """From now on every part of an AutoencoderKL, this package's or ComfyUI's, raises ValueError for values that are not finite."""
    for key, name in PARTS.items():
        autoencoder.get_submodule(key).register_forward_hook(partial(look, f"The image autoencoder's {name}"))


def look(name: str, part: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    """A forward hook that checks what a part makes."""
    check_finite(name, output, inputs[0])


def check_finite(name: str, output: Tensor, given: Tensor | None = None) -> None:
    """Raise ValueError if the output of what is called `name` is not finite, because of what it was given or of itself."""
    if output.isfinite().all():
        return
    if given is not None and not given.isfinite().all():
        raise ValueError(f"{name} got numbers that are not finite: the picture, the text latent or the latent before it holds NaN or inf.")
    value, dtype = "inf" if output.isinf().any() else "NaN", str(output.dtype).removeprefix("torch.")
    if dtype == "float16":
        advice = "compute it in a larger type (in ComfyUI: --fp32-vae --force-fp32)"
    else:
        advice = "its weights are damaged; download the model again"
    raise ValueError(f"{name} gave {value} in {dtype}: {advice}.")
