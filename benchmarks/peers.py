"""Optional contestants: public networks of the same size, with random weights of their own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.cases import CFG, TIMESTEP, Case, randomize_
from vd_core.config import DiffuserConfig


def build_diffusers_unet(config: DiffuserConfig) -> nn.Module:
    """Build diffusers' UNet2DConditionModel (`pip install diffusers`). Raises ImportError without it."""
    from diffusers import UNet2DConditionModel

    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention)]
    return UNet2DConditionModel(
        in_channels=config.data["image"].channels,
        out_channels=config.data["image"].channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=[config.model_channels * mult for mult in config.channel_mult],
        layers_per_block=config.num_res_blocks,
        attention_head_dim=config.num_heads,  # diffusers' name for the number of heads
        cross_attention_dim=config.context["text"],
    )


def build_core_unet(config: DiffuserConfig) -> nn.Module:
    """ComfyUI's UNetModel, from the checkout that COMFYUI_PATH names. Raises KeyError without it, ImportError
    without its requirements."""
    sys.path.append(os.environ["COMFYUI_PATH"])
    import comfy.cli_args

    comfy.cli_args.args.cpu = not torch.cuda.is_available()  # before model management looks for a card
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    depths = [
        int(attends)
        for attends, blocks in zip(config.attention, config.num_res_blocks, strict=True)
        for _ in range(blocks)
    ]
    back = [
        int(attends)
        for attends, blocks in zip(config.attention, config.num_res_blocks, strict=True)
        for _ in range(blocks + 1)
    ]
    return UNetModel(
        image_size=32,
        in_channels=config.data["image"].channels,
        out_channels=config.data["image"].channels,
        model_channels=config.model_channels,
        num_res_blocks=list(config.num_res_blocks),
        channel_mult=config.channel_mult,
        num_heads=config.num_heads,
        use_spatial_transformer=True,
        transformer_depth=depths,
        transformer_depth_middle=1,
        transformer_depth_output=back,
        context_dim=config.context["text"],
        operations=comfy.ops.disable_weight_init,
    )


PEERS = {"diffusers": build_diffusers_unet, "core": build_core_unet}


@torch.no_grad()
def make_peer_step(name: str, case: Case) -> Callable[[], Tensor]:
    """Make a guided step of a flow with one context to pictures, both halves as one batch."""
    with torch.device("meta"):
        unet = PEERS[name](case.config.diffuser)
    unet = randomize_(unet.eval().to(case.dtype).to_empty(device=case.device))
    context = case.contexts[0]
    tokens = torch.cat([side.expand(case.batch, -1, -1) for side in (context.unconditional, context.tokens)])
    timesteps = torch.full((2 * case.batch,), TIMESTEP, device=case.device)

    def step() -> Tensor:
        output = unet(torch.cat([case.latent] * 2), timesteps, tokens)
        unconditional, conditional = (output if isinstance(output, Tensor) else output.sample).chunk(2)
        return unconditional + CFG * (conditional - unconditional)

    return step


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Which peers are measured too."""
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=[], help="beside flows of one context to pictures"
    )
