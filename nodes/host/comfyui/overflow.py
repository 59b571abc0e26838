"""Samples that are not finite, which would be black pictures, end in a sentence that names the layer; under every sampler of core's."""

from __future__ import annotations

from collections.abc import Iterator

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from comfy.patcher_extension import WrapperExecutor
from torch import Tensor, nn

from ....vd_core.diffuser.overflow import block_name, named_layers, named_where_not_finite

ROLES = {ResBlock: "residual", SpatialTransformer: "context", Downsample: "downsampling", Upsample: "upsampling"}


def sample(executor: WrapperExecutor, *given, **more) -> Tensor:
    """Wraps a whole sampling, whose arguments differ among cores. Raises ValueError where its result is not finite."""
    network = executor.class_obj.model_patcher.model.diffusion_model
    layers = layers_of(network) if isinstance(network, UNetModel) else named_layers(network, network.kind)
    return named_where_not_finite(lambda: executor(*given, **more), layers)


def layers_of(unet: UNetModel) -> Iterator[tuple[str, nn.Module]]:
    """The layers of core's UNet with names for people."""
    for stage, blocks in (("in", unet.input_blocks), ("mid", [unet.middle_block]), ("out", unet.output_blocks)):
        for number, block in enumerate(blocks):
            for layer in block:
                role = next((role for kind, role in ROLES.items() if isinstance(layer, kind)), "first")
                which = ("first " if layer is block[0] else "second ") if stage == "mid" and role == "residual" else ""
                yield f"{block_name(stage, number)}'s {which}{role} layer", layer
                if role == "context":  # the text context's layers are its own, those of the other kinds lie below it
                    for kind, below in layer.named_children():
                        if isinstance(below, SpatialTransformer):
                            yield f"{block_name(stage, number)}'s {kind} context layer", below
    yield "The output layer", unet.out
