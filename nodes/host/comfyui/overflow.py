"""Samples that are not finite, which would be black pictures, end in a sentence that names the layer; under
every sampler of core's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import Tensor, nn

from ....vd_core.diffuser.layer_names import name_block, name_layers
from ....vd_core.finite import check_samples
from .models import FlowModel

ROLES = {
    ResBlock: "residual",
    SpatialTransformer: "context",
    Downsample: "downsampling",
    Upsample: "upsampling",
}


def check_sampling(samples: Tensor, again: Callable[[], Tensor], flow: FlowModel) -> None:
    """Raise ValueError where what a whole sampling of a flow gave is not finite. again: samples once more."""
    network = flow.diffusion_model
    layers = (
        name_layers_of_core(network) if isinstance(network, UNetModel) else name_layers(network, flow.data)
    )
    check_samples(samples, again, layers)


def name_layers_of_core(unet: UNetModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of core's UNet with names for people."""
    for stage, blocks in (
        ("in", unet.input_blocks),
        ("mid", [unet.middle_block]),
        ("out", unet.output_blocks),
    ):
        for number, block in enumerate(blocks):
            for layer in block:
                role = next((role for kind, role in ROLES.items() if isinstance(layer, kind)), "first")
                which = (
                    ("first " if layer is block[0] else "second ")
                    if stage == "mid" and role == "residual"
                    else ""
                )
                yield f"{name_block(stage, number)}'s {which}{role} layer", layer
                # the text context's layers are its own, those of the other kinds lie below it
                if role == "context":
                    for kind, below in layer.named_children():
                        if isinstance(below, SpatialTransformer):
                            yield f"{name_block(stage, number)}'s {kind} context layer", below
    yield "The output layer", unet.out
