"""What is measured: the flows, at three sizes, with random weights and contexts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from vd_core.config import DiffuserConfig, ImageVAEConfig, VDConfig
from vd_core.context import Blend, Context
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.schedule import Schedule

# "small" has every layer of the full model at 0.16 times the cost.
SIZES = {
    "full": VDConfig(),
    "small": replace(
        VDConfig(),
        diffuser=DiffuserConfig(model_channels=128, num_heads=4),
        image_vae=ImageVAEConfig(channels=64),
    ),
    "tiny": VDConfig.tiny(),
}
FLOWS = {  # output kind, kinds of the contexts
    "text-to-image": ("image", ("text",)),
    "image-variation": ("image", ("image",)),
    "dual": ("image", ("image", "text")),
    "image-to-text": ("text", ("image",)),
    "text-to-text": ("text", ("text",)),
}
CFG = 7.5
TIMESTEP = 481


def add_size_options(parser: argparse.ArgumentParser, size: str = "small") -> None:
    """Add the options that say what is measured."""
    parser.add_argument("--size", choices=SIZES, default=size)
    parser.add_argument("--pixels", type=int, default=256, help="side of the picture")
    parser.add_argument("--batch", type=int, default=1)


def randomize_(model: nn.Module) -> nn.Module:
    """Fill a model with weights that keep activations at a variance near 1."""
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.zero_()
        elif weight.ndim == 1:
            weight.fill_(1)
        else:
            weight.normal_(std=weight[0].numel() ** -0.5)
    return model


@torch.no_grad()
def make_random_diffuser(
    config: DiffuserConfig, data: Sequence[str], contexts: Sequence[str], dtype: torch.dtype, device: str
) -> Diffuser:
    """Make a diffuser of the given kinds; never more of it is in memory than its own weights."""
    with torch.device("meta"):
        diffuser = Diffuser(config, data, contexts)
    diffuser = diffuser.to(dtype).requires_grad_(False)
    return diffuser if device == "meta" else randomize_(diffuser.to_empty(device=device))


@dataclass(frozen=True, eq=False)
class Case:
    """One flow at one size.

    kinds:  of the contexts; they may repeat. tokens: how many each has; None = as many as CLIP gives.
    device: may be "meta", where nothing is computed but FLOPs can be counted.
    """

    config: VDConfig
    data: str
    kinds: tuple[str, ...]
    pixels: int = 512
    batch: int = 1
    tokens: int | None = None
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @cached_property
    def diffuser(self) -> Diffuser:
        """The layers that the flow needs."""
        torch.manual_seed(0)
        return make_random_diffuser(
            self.config.diffuser, [self.data], sorted(set(self.kinds)), self.dtype, self.device
        )

    @cached_property
    def schedule(self) -> Schedule:
        """The noise schedule."""
        return Schedule(self.config.schedule)

    @cached_property
    def latent(self) -> Tensor:
        """Noise in the shape that the diffuser starts from."""
        side = self.pixels // 2 ** (len(self.config.image_vae.channel_mult) - 1)
        channels = self.config.diffuser.data[self.data].channels
        shape = (self.batch, channels, side, side) if self.data == "image" else (self.batch, channels)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(self.device, self.dtype)

    @cached_property
    def contexts(self) -> Blend:
        """One context of each kind, for the whole batch; official unconditional tokens: zeros for a picture
        that makes pictures."""
        return [self.context(kind, number) for number, kind in enumerate(self.kinds)]

    def context(self, kind: str, seed: int) -> Context:
        """Random tokens, of length 1 as CLIP's are."""
        generator = torch.Generator().manual_seed(seed)
        clip = self.config.clip
        count = self.tokens or {"text": clip.text, "image": clip.vision}[kind].positions
        rows = torch.randn(2, count, self.config.diffuser.context[kind], generator=generator)
        tokens, null = torch.nn.functional.normalize(rows, dim=-1).to(self.device, self.dtype).split(1)
        return Context(kind, tokens, None if (self.data, kind) == ("image", "image") else null)


def make_case(flow: str, options: argparse.Namespace, dtype: torch.dtype, **changes) -> Case:
    """Make a flow as the options of the command line say."""
    data, kinds = FLOWS[flow]
    return replace(
        Case(SIZES[options.size], data, kinds, options.pixels, options.batch, None, dtype, options.device),
        **changes,
    )
