"""Training of the multi-flow diffuser on prepared latents and contexts (Versatile Diffusion, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffuser.context_layers import ContextLayer
from ..diffuser.data import Output0D, Output2D, ResBlock
from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule
from .loss import flow_loss


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

    def batch(self, data: str, kind: str, size: int, dropout: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`size` random latents with their tokens, a share `dropout` of which is unconditional (for classifier-free guidance)."""
        chosen = torch.randint(len(self.contexts[kind]), (size,), generator=generator)
        null = self.nulls[kind][torch.randint(len(self.nulls[kind]), (size,), generator=generator)]
        dropped = torch.rand(size, 1, 1, generator=generator) < dropout
        return self.latents[data][chosen], torch.where(dropped, null, self.contexts[kind][chosen])


def flow_losses(flows: FlowData, schedule: Schedule, batches: dict[tuple[str, str], int], dropout: float = 0.1):
    """Loss function for `loop.fit`: every flow (output kind, condition kind) of `batches` with its batch size, one after the other."""

    def losses(diffuser: Diffuser, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        for (data, kind), size in batches.items():
            x0, tokens = flows.batch(data, kind, size, dropout, generator)
            t = torch.randint(schedule.timesteps, (size,), generator=generator)
            noise = torch.randn(x0.shape, generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                loss = flow_loss(diffuser, schedule, data, kind, x0, t, noise, tokens)
            yield f"{kind}_to_{data}", loss

    return losses


@torch.no_grad()
def initialise(diffuser: Diffuser) -> None:
    """Starting weights: residual branches and outputs begin at zero, context projections see tokens of unit scale."""
    for module in diffuser.modules():
        if isinstance(module, ResBlock):
            zero(module.conv2)
        elif isinstance(module, ContextLayer):
            zero(module.proj_out)
            for block in module.transformer_blocks:
                # VD's contexts are vectors of norm about 1, so their entries are small: without this the text is hardly heard at first.
                for projection in (block.attn2.to_k, block.attn2.to_v):
                    projection.weight.mul_(projection.in_features**0.5)
        elif isinstance(module, Output2D | Output0D):
            zero(module.proj)


def zero(layer: nn.Module) -> None:
    """Set weight and bias to zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
