"""Few steps by consistency: latent consistency distillation (Luo et al. 2023), a baseline for `ddgan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..diffuser.model import Diffuser
from ..sampling.corrections import shape_per_sample
from ..sampling.schedule import Schedule, Steps
from .diffuser import FlowData
from .distributed import share
from .teacher import Attach, predict_data, predict_guided_data

HUBER = 1e-3  # where the loss turns from squares to absolute values, for each entry of unit variance


def huber_loss(x: Tensor, y: Tensor) -> Tensor:
    """Return the pseudo-Huber distance, mean of sqrt((x - y)² + c²) - c (Song & Dhariwal 2024, eq. 11)."""
    return ((x - y).square() + HUBER**2).sqrt().mean() - HUBER


def consistency_losses(
    flows: FlowData,
    schedule: Schedule,
    grid: Steps,
    batches: Mapping[tuple[str, str], int],
    teacher: Diffuser,
    attach: Attach,
    cfg: float,
    *,
    precision: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
):
    """Return the losses of the student, flow by flow, for `loop.fit`: its data is the same all along a path.

    Data predicted at the noisier end of a DDIM step of the teacher is held to that predicted at the cleaner
    end, by the student itself without gradient (a target network of decay 0, Song & Dhariwal 2024), and
    behind the last step to the path's own end.

    grid:    the teacher's steps.
    batches: (output kind, condition kind) -> samples in a step.
    teacher: the diffuser as it was, frozen.
    attach:  see `Attach`.
    cfg:     guidance of the teacher, which the student learns to do without.
    """
    device, alphas = torch.device(device), grid.alphas_cumprod
    ends = torch.cat([grid.timesteps[1:], grid.timesteps.new_zeros(1)])

    def losses(student: nn.Module, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        for (data, kind), size in batches.items():
            x0, tokens = flows.batch(data, kind, size, 0.0, generator)
            step = torch.randint(len(grid), (size,), generator=generator)
            noise = torch.randn(x0.shape, generator=generator)
            mine = share(size)
            x0, tokens, noise, step = (
                x0[mine].to(device),
                tokens[mine].to(device),
                noise[mine].to(device),
                step[mine],
            )
            t, t_next, alpha, alpha_next = (
                grid.timesteps[step].to(device),
                ends[step].to(device),
                alphas[step],
                alphas[step + 1],
            )
            x = schedule.q_sample(x0, t, noise)
            with (
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
                attach(student) as diffuser,
            ):
                drawn = predict_data(diffuser, schedule, x, t, kind, tokens, data)
            with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                ahead = predict_guided_data(
                    teacher, schedule, x, t, kind, tokens, flows.null(data, kind).to(device), data, cfg
                )
                eps = (x - shape_per_sample(alpha.sqrt(), x) * ahead) / shape_per_sample(
                    (1 - alpha).sqrt(), x
                )
                x_next = (
                    shape_per_sample(alpha_next.sqrt(), x) * ahead
                    + shape_per_sample((1 - alpha_next).sqrt(), x) * eps
                )
                with attach(student) as diffuser:
                    target = predict_data(diffuser, schedule, x_next, t_next, kind, tokens, data)
            target = torch.where(shape_per_sample(t_next, x) == 0, ahead, target)
            yield f"{kind}_to_{data}", huber_loss(drawn, target)

    return losses
