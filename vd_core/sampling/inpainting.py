"""Sampling a part of a latent, the rest of which is known."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from .samplers import Denoise
from .schedule import Schedule


def held(denoise: Denoise, schedule: Schedule, source: Tensor, noise: Tensor, mask: Tensor) -> Denoise:
    """`denoise` with everything outside the mask known: any sampler then leads there to `source`, and inside to what fits to it.

    At each step the network sees m x + (1 - m) q(source, t) (Nichol et al. 2022, section 3.2; Lugmayr et al. 2022, eq. 8), and the data
    that the prediction stands for becomes m x0 + (1 - m) source. Unlike in those papers q has the same noise in every step, which keeps
    the path to the data straight, as samplers of higher order need it.

    source, noise: of x's shape; noise is that of the start. mask: 0..1, broadcast to x; 1 everywhere changes nothing, to the last bit.
    """

    def masked(x: Tensor, t: int) -> Tensor:
        seen = mask * x + (1 - mask) * schedule.q_sample(source, t, noise)
        eps = denoise(seen, t) + (x - seen) / sqrt(1 - schedule.alphas_cumprod[t].item())  # in x, for the same data
        return mask * eps + (1 - mask) * schedule.noise_in(x, source, t)

    return masked
