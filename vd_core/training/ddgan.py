"""Few large steps by an adversary: denoising diffusion GANs (Xiao et al. 2022), from a trained diffuser on.

A large step back has many likely ends, which one predicted mean cannot stand for. Here the diffuser learns to
draw data x0 such that a draw from q(x_next | x, x0) looks like a real x_next to a discriminator that sees x,
the step and the context too. The noise in x and in that draw takes the place of the paper's latent z (as in
UFOGen, Xu et al. 2024), so the diffuser keeps its layers and its files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DiffuserConfig
from ..diffuser.model import Diffuser
from ..sampling.corrections import shape_per_sample
from ..sampling.samplers import posterior
from ..sampling.schedule import Schedule, Steps
from .diffuser import FlowData
from .discriminator import LatentDiscriminator
from .distributed import share
from .teacher import Attach, predict_data, predict_guided_data


@dataclass(frozen=True)
class AdversarialWeights:
    """What the terms of the losses count.

    teacher:  of the mean squared distance to the teacher's guided data, in the generator's loss; 0 leaves it
              out.
    r1:       gamma of the R1 penalty gamma / 2 |grad D|² (Mescheder et al. 2018); 0 leaves it out.
    r1_every: steps between penalties, which then count as many times (Karras et al. 2020, "lazy").
    """

    teacher: float = 1.0
    r1: float = 0.05
    r1_every: int = 10


class Adversaries(nn.Module):
    """What learns: the student, a diffuser or a LoRA of one, and a discriminator for each kind of output."""

    def __init__(self, student: nn.Module, config: DiffuserConfig, outputs: Sequence[str]):
        super().__init__()
        self.student = student
        self.discriminators = nn.ModuleDict(
            {kind: LatentDiscriminator(config.data[kind], config.context) for kind in outputs}
        )


def draw_noisy_pair(
    x0: Tensor, alpha: Tensor, alpha_next: Tensor, noise: Tensor, noise_next: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw a real pair (x_next, x): x_next from q(x_next | x0), then x from q(x | x_next).

    x0 [B, …]; alpha, alpha_next: alphas_cumprod of x and of x_next, [B]; both noises standard normal of x0's
    shape.
    """
    step = alpha / alpha_next
    x_next = (
        shape_per_sample(alpha_next.sqrt(), x0) * x0
        + shape_per_sample((1 - alpha_next).sqrt(), x0) * noise_next
    )
    return x_next, shape_per_sample(step.sqrt(), x0) * x_next + shape_per_sample(
        (1 - step).sqrt(), x0
    ) * noise


def generator_loss(fake: Tensor) -> Tensor:
    """Return -log sigmoid of the logits of what was drawn, mean (Goodfellow et al. 2014, non-saturating)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return -log sigmoid(real) - log(1 - sigmoid(fake)) of logits, mean."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(real: Tensor, x_next: Tensor) -> Tensor:
    """Return half the mean squared norm of the gradient of the logits at real latents.

    (Mescheder et al. 2018, eq. 9, with gamma = 1.)
    """
    (gradient,) = torch.autograd.grad(real.sum(), x_next, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


def ddgan_losses(
    flows: FlowData,
    schedule: Schedule,
    walk: Steps,
    batches: Mapping[tuple[str, str], int],
    teacher: Diffuser,
    attach: Attach,
    cfg: float,
    weights: AdversarialWeights = AdversarialWeights(),
    *,
    precision: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
):
    """Return the losses of generator and discriminator, flow by flow, for `loop.fit` over `Adversaries`.

    walk:    the large steps.
    batches: (output kind, condition kind) -> samples in a step.
    teacher: the diffuser as it was, frozen.
    attach:  see `Attach`.
    cfg:     guidance of the teacher, which the student learns to do without.
    """
    device, alphas = torch.device(device), walk.alphas_cumprod

    def losses(model: Adversaries, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        for (data, kind), size in batches.items():
            x0, tokens = flows.batch(data, kind, size, 0.0, generator)
            step = torch.randint(len(walk), (size,), generator=generator)
            noises = torch.randn(3, *x0.shape, generator=generator)
            penalised = weights.r1 > 0 and bool(torch.rand(1, generator=generator) < 1 / weights.r1_every)
            mine = share(size)
            x0, tokens, noises, step = (
                x0[mine].to(device),
                tokens[mine].to(device),
                noises[:, mine].to(device),
                step[mine],
            )
            t, alpha, alpha_next = walk.timesteps[step].to(device), alphas[step], alphas[step + 1]
            real, x = draw_noisy_pair(x0, alpha, alpha_next, noises[0], noises[1])
            to_data, to_x, deviation = (
                shape_per_sample(factor, x) for factor in posterior(alpha, alpha_next)
            )
            discriminator, cast = (
                model.discriminators[data],
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
            )

            discriminator.requires_grad_(False)
            with cast, attach(model.student) as diffuser:
                drawn = predict_data(diffuser, schedule, x, t, kind, tokens, data)
            fake = to_data * drawn + to_x * x + deviation * noises[2]
            with cast:
                loss = generator_loss(discriminator(fake, x, t, kind, tokens).float())
                if weights.teacher:
                    wanted = predict_guided_data(
                        teacher, schedule, x, t, kind, tokens, flows.null(data, kind).to(device), data, cfg
                    )
            if weights.teacher:
                loss = loss + weights.teacher * F.mse_loss(drawn, wanted)
            yield f"{kind}_to_{data}", loss

            discriminator.requires_grad_(True)
            with cast:
                logits = [discriminator(pair, x, t, kind, tokens).float() for pair in (real, fake.detach())]
            loss = discriminator_loss(*logits)
            if penalised:
                real.requires_grad_(True)
                loss = loss + weights.r1_every * weights.r1 * r1_penalty(
                    discriminator(real, x, t, kind, tokens), real
                )
            yield f"{kind}_to_{data}_discriminator", loss

    return losses
