"""Training of an encoder of pictures against a frozen diffuser, as SeeCoder was trained (Xu et al. 2023,
section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule
from .clip import distort
from .loss import flow_loss


def context_encoder_losses(
    diffuser: Diffuser, schedule: Schedule, kind: str, latents: Tensor, images: Tensor, batch: int
):
    """Make a loss function for `loop.fit` over aligned scaled latents [N, C, h, w] and pictures [N, 3, S, S]
    in 0..1.

    The encoder's tokens take the place of the contexts of `kind`; they must help the diffuser to draw the
    picture that was encoded. It sees the picture distorted, so that it learns what is shown rather than
    where.
    """
    diffuser.requires_grad_(False)

    def losses(encoder: nn.Module, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randint(len(images), (batch,), generator=generator)
        x0 = latents[chosen]
        t = torch.randint(schedule.timesteps, (batch,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = encoder(distort(images[chosen], generator))
            yield "image", flow_loss(diffuser, schedule, "image", kind, x0, t, noise, tokens)

    return losses
