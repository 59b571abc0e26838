"""Inpainting: sample a part of a latent while the rest is known."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from .samplers import Denoise
from .schedule import Schedule


def inpaint(
    denoise: Denoise, schedule: Schedule, source: Tensor, noise: Tensor, mask: Tensor | None
) -> Denoise:
    """Wrap `denoise` so that any sampler keeps `source` outside the mask and fills the inside to fit.

    Without a mask `denoise` itself is returned.

    At each step the network sees m x + (1 - m) q(source, t) (Nichol et al. 2022, section 3.2; Lugmayr et al.
    2022, eq. 8), and the data that the prediction stands for becomes m x0 + (1 - m) source. Unlike in those
    papers q has the same noise in every step, which keeps the path to the data straight, as samplers of
    higher order need it.

    source, noise: of x's shape; noise is that of the start.
    mask:          0..1, broadcast to x; 1 everywhere changes nothing, to the last bit.
    """
    if mask is None:
        return denoise

    def denoise_masked(x: Tensor, t: float) -> Tensor:
        seen = mask * x + (1 - mask) * schedule.q_sample(source, t, noise)
        eps = denoise(seen, t) + (x - seen) / sqrt(1 - schedule.alpha(t))  # in x, for the same data
        return mask * eps + (1 - mask) * schedule.noise_in(x, source, t)

    return denoise_masked
