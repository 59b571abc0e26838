"""The multi-flow diffusion loss (Versatile Diffusion, Algorithm 1) and its published refinements, pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..context import Context
from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule


@dataclass(frozen=True)
class Refinements:
    """What may be changed of the plain mean squared error; the defaults change nothing.

    min_snr:    gamma of min-SNR weights (Hang et al. 2023; 5 there); None = every noise level counts the
                same.
    multiscale: smallest side of the multiscale loss (Hoogeboom et al. 2023, "simple diffusion", section 3.3;
                32 there); None = full size only. Texts and latents of odd sides have no other scales.
    """

    min_snr: float | None = None
    multiscale: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}.")


PLAIN = Refinements()


def flow_loss(
    diffuser: Diffuser,
    schedule: Schedule,
    data: str,
    kind: str,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    tokens: Tensor,
    refinements: Refinements = PLAIN,
) -> Tensor:
    """Compute the mean squared error of one flow: latents of kind `data` [B, …] (scaled) under one context of
    `kind`, tokens [B, n, d].

    t [B] are timesteps 0..timesteps-1, noise is standard normal of x0's shape. The target is what the
    schedule's `prediction` names.
    """
    x = schedule.q_sample(x0, t, noise)
    prediction, target = diffuser(x, t, [Context(kind, tokens)], data).float(), schedule.target(x0, t, noise)
    if refinements.min_snr is None and (refinements.multiscale is None or x0.ndim != 4):
        return F.mse_loss(prediction, target)
    errors = multiscale_errors(prediction - target, refinements.multiscale)
    if refinements.min_snr is not None:
        errors = errors * min_snr_weights(schedule, t, refinements.min_snr).to(errors)
    return errors.mean()


def min_snr_weights(schedule: Schedule, t: Tensor, gamma: float) -> Tensor:
    """Compute weights [B] of squared errors at timesteps t [B] that all amount to min(SNR, gamma) on x0 (Hang
    et al. 2023, section 3.4).

    An error of the noise is one of x0 times SNR, an error of v one of x0 times SNR + 1.
    """
    alphas = schedule.alphas_cumprod[t.cpu()]
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / (snr if schedule.prediction == "eps" else snr + 1)


def multiscale_errors(difference: Tensor, smallest: int | None) -> Tensor:
    """Compute mean squares [B] of a difference [B, …], averaged over its halved sizes s down to `smallest`
    with weights 1 / s.

    Hoogeboom et al. 2023, eq. 9: Σ_s (1/s) ‖D_s(ε) - D_s(ε̂)‖², D_s averaging over squares. Here the weights
    add up to 1, so that the learning rate keeps its meaning.
    """
    scales = [difference]
    while (
        smallest
        and difference.ndim == 4
        and min(side := scales[-1].shape[2:]) >= 2 * smallest
        and not any(s % 2 for s in side)
    ):
        scales.append(F.avg_pool2d(scales[-1], 2))
    if len(scales) == 1:
        return difference.square().flatten(1).mean(dim=1)
    weights = [1 / max(scale.shape[2:]) for scale in scales]
    errors = [
        scale.square().flatten(1).mean(dim=1) * weight for scale, weight in zip(scales, weights, strict=True)
    ]
    return reduce(torch.add, errors) / sum(weights)
