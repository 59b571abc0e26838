"""Few large steps by an adversary: denoising diffusion GANs (Xiao et al. 2022), started from a trained diffuser.

A large step back has many likely ends, which one predicted mean cannot stand for. Here the diffuser learns to draw data x0 such that a
draw from q(x_next | x, x0) looks like a real x_next to a discriminator that sees x, the step and the context too. The noise in x and
in that draw takes the place of the paper's latent z (as in UFOGen, Xu et al. 2024), so the diffuser keeps its layers and its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DiffuserConfig
from ..diffuser.model import Diffuser
from ..sampling.guidance import combine
from ..sampling.schedule import Schedule, Steps
from .diffuser import FlowData
from .discriminator import LatentDiscriminator
from .distributed import share

Attach = Callable[
    [nn.Module], AbstractContextManager[Diffuser]
]  # what is trained -> the diffuser that computes with it


@dataclass(frozen=True)
class AdversarialWeights:
    """What the terms of the losses count.

    teacher:  of the mean squared distance to the teacher's guided data, in the generator's loss; 0 leaves it out.
    r1:       gamma of the R1 penalty gamma / 2 |grad D|² (Mescheder et al. 2018); 0 leaves it out.
    r1_every: steps between penalties, which then count as many times (Karras et al. 2020, "lazy").
    """

    teacher: float = 1.0
    r1: float = 0.05
    r1_every: int = 10


class Adversaries(nn.Module):
    """What learns: the student, a diffuser or the LoRA of one, and a discriminator for each kind of output."""

    def __init__(self, student: nn.Module, config: DiffuserConfig, outputs: Sequence[str]):
        super().__init__()
        self.student = student
        self.discriminators = nn.ModuleDict(
            {kind: LatentDiscriminator(config.data[kind], config.context) for kind in outputs}
        )


def posterior(alpha, alpha_next):
    """How q(x_next | x, x0) is made, from alphas_cumprod (numbers, or tensors of one shape) before and after a step of any size.

    Returns the factor of x0, the factor of x and the standard deviation (Ho et al. 2020, eq. 6 and 7).
    """
    beta = 1 - alpha / alpha_next
    data = alpha_next**0.5 * beta / (1 - alpha)
    noisy = (1 - beta) ** 0.5 * (1 - alpha_next) / (1 - alpha)
    return data, noisy, (beta * (1 - alpha_next) / (1 - alpha)) ** 0.5


def shaped(values: Tensor, like: Tensor) -> Tensor:
    """One value per sample, [B], in shape and type of what it multiplies, [B, …]."""
    return values.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def noisy_pair(
    x0: Tensor, alpha: Tensor, alpha_next: Tensor, noise: Tensor, noise_next: Tensor
) -> tuple[Tensor, Tensor]:
    """A real pair (x_next, x): x_next from q(x_next | x0), and x from q(x | x_next), whose one step is as large as walk's.

    x0 [B, …]; alpha, alpha_next: alphas_cumprod of x and x_next, [B]; both noises standard normal of x0's shape.
    """
    step = alpha / alpha_next
    x_next = shaped(alpha_next.sqrt(), x0) * x0 + shaped((1 - alpha_next).sqrt(), x0) * noise_next
    return x_next, shaped(step.sqrt(), x0) * x_next + shaped((1 - step).sqrt(), x0) * noise


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: -log sigmoid of the discriminator's logits for what was drawn (Goodfellow et al. 2014)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Logits of real and of drawn latents -> -log sigmoid(real) - log(1 - sigmoid(fake)), mean."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def r1_penalty(real: Tensor, x_next: Tensor) -> Tensor:
    """Half the mean squared norm of the gradient of the logits at real latents (Mescheder et al. 2018, eq. 9, gamma = 1)."""
    (gradient,) = torch.autograd.grad(real.sum(), x_next, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


def predicted_data(
    diffuser: Diffuser, schedule: Schedule, x: Tensor, t: Tensor, kind: str, tokens: Tensor, data: str
) -> Tensor:
    """The data that the diffuser sees in x [B, …] at timesteps t [B] under a context, without guidance."""
    return schedule.to_x0(x, diffuser(x, t, [(kind, tokens, 1.0)], data).float(), t)


@torch.no_grad()
def guided_data(
    diffuser: Diffuser,
    schedule: Schedule,
    x: Tensor,
    t: Tensor,
    kind: str,
    tokens: Tensor,
    null: Tensor,
    data: str,
    cfg: float,
) -> Tensor:
    """The same with classifier-free guidance of scale `cfg`; null: unconditional tokens [1, n, d]."""
    if cfg == 1:
        return predicted_data(diffuser, schedule, x, t, kind, tokens, data)
    rows = torch.cat([null.expand(len(x), -1, -1).to(tokens), tokens])
    outputs = diffuser(x, t, [(kind, rows, 1.0)], data, evaluations=2).float().chunk(2)
    return schedule.to_x0(x, combine(outputs, [cfg]), t)


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
    """Loss function for `loop.fit` over `Adversaries`: for every flow (output kind, condition kind) the generator's, then the
    discriminator's.

    walk:    the large steps. teacher: the diffuser as it was. attach: see `Attach`.
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
            real, x = noisy_pair(x0, alpha, alpha_next, noises[0], noises[1])
            to_data, to_x, deviation = (shaped(factor, x) for factor in posterior(alpha, alpha_next))
            discriminator, cast = (
                model.discriminators[data],
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
            )

            discriminator.requires_grad_(False)
            with cast, attach(model.student) as diffuser:
                drawn = predicted_data(diffuser, schedule, x, t, kind, tokens, data)
            fake = to_data * drawn + to_x * x + deviation * noises[2]
            with cast:
                loss = generator_loss(discriminator(fake, x, t, kind, tokens).float())
                if weights.teacher:
                    wanted = guided_data(
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
