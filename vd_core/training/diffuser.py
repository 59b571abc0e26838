"""Training of the multi-flow diffuser on prepared latents and contexts (Versatile Diffusion, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..diffuser.context_layers import ContextLayer, TransformerBlock
from ..diffuser.data import Output0D, Output2D, ResBlock
from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule
from .distributed import share
from .loss import PLAIN, Refinements, flow_loss

# What is computed once more, or put together, one at a time where memory is short.
BLOCKS = ResBlock | ContextLayer


@dataclass(frozen=True)
class FlowData:
    """What the flows are trained on, all N samples aligned.

    latents:  output kind -> scaled latents [N, …].
    contexts: condition kind -> tokens [N, n, d].
    nulls:    condition kind -> the unconditional tokens that may stand in for a dropped context, [m, n, d].
    """

    latents: dict[str, Tensor]
    contexts: dict[str, Tensor]
    nulls: dict[str, Tensor]

    def batch(
        self, data: str, kind: str, size: int, dropout: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw `size` random latents with their tokens, a share `dropout` of which is unconditional (for
        classifier-free guidance)."""
        chosen = torch.randint(len(self.contexts[kind]), (size,), generator=generator)
        null = self.nulls[kind][torch.randint(len(self.nulls[kind]), (size,), generator=generator)]
        dropped = torch.rand(size, 1, 1, generator=generator) < dropout
        # Stored ones may be half
        return self.latents[data][chosen], torch.where(dropped, null, self.contexts[kind][chosen]).float()

    def null(self, data: str, kind: str) -> Tensor:
        """Return the unconditional tokens that official sampling takes, [1, n, d].

        Those are the first ones (of pictures, zeros) for pictures, the last ones (of pictures, those of a
        black one) for other outputs.
        """
        nulls = self.nulls[kind].float()
        return nulls[:1] if data == "image" else nulls[-1:]


def flow_losses(
    flows: FlowData,
    schedule: Schedule,
    batches: dict[tuple[str, str], int],
    dropout: float = 0.1,
    *,
    refinements: Refinements = PLAIN,
    precision: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    checkpointing: bool = False,
    levels: Mapping[str, Tensor] = MappingProxyType({}),
):
    """Make a loss function for `loop.fit`: every flow (output kind, condition kind) of `batches` with its
    batch size, one after the other.

    Each process draws the whole batch and keeps its share, so that any number of processes trains on the same
    samples and noise.

    precision:     of the network's matrix products; float32 trains without autocast.
    checkpointing: trade time for memory: the layers' insides are computed once more on the way back.
    levels:        output kind -> the timestep that stands for each drawn one, [timesteps], as in a shifted
                   schedule.
    """
    device = torch.device(device)

    def losses(diffuser: Diffuser, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        for (data, kind), size in batches.items():
            x0, tokens = flows.batch(data, kind, size, dropout, generator)
            t = torch.randint(schedule.timesteps, (size,), generator=generator)
            t = levels[data][t] if data in levels else t
            noise = torch.randn(x0.shape, generator=generator)
            x0, t, noise, tokens = (tensor[share(size)].to(device) for tensor in (x0, t, noise, tokens))
            with (
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
                checkpoint_layers(diffuser) if checkpointing else nullcontext(),
            ):
                loss = flow_loss(diffuser, schedule, data, kind, x0, t, noise, tokens, refinements)
            yield f"{kind}_to_{data}", loss

    return losses


@contextmanager
def checkpoint_layers(diffuser: Diffuser) -> Iterator[None]:
    """Keep only the inputs of residual blocks and context layers for the backward pass (Chen et al. 2016)."""
    layers = [module for module in diffuser.modules() if isinstance(module, BLOCKS)]
    for layer in layers:
        remembering = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
        layer.forward = remembering  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def find_layer_group(name: str) -> str:
    """Return the group of a diffuser's parameter: "global", "data" or "context" (VD paper, section 3.2)."""
    head = name.split(".")[0]
    return "global" if head == "time_embed" else head


def draw_anew(diffuser: Diffuser) -> None:
    """Replace all weights by starting weights, drawn from torch's global generator."""
    for module in diffuser.modules():
        if next(module.parameters(recurse=False), None) is not None:
            cast(Any, module).reset_parameters()
    initialise(diffuser)


@torch.no_grad()
def initialise(diffuser: Diffuser) -> None:
    """Set starting weights: residual branches and outputs begin at zero, context projections see tokens of
    unit scale."""
    for module in diffuser.modules():
        if isinstance(module, ResBlock):
            zero(module.conv2)
        elif isinstance(module, ContextLayer):
            zero(module.proj_out)
            for block in (block for block in module.modules() if isinstance(block, TransformerBlock)):
                # VD's contexts are vectors of norm about 1, so their entries are small: without this the text
                # is hardly heard at first.
                for projection in (block.attn2.to_k, block.attn2.to_v):
                    projection.weight.mul_(projection.in_features**0.5)
        elif isinstance(module, Output2D | Output0D):
            zero(module.proj)


def zero(layer: nn.Linear | nn.Conv2d) -> None:
    """Set weight and bias to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
