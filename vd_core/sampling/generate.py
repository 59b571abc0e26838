"""From noise, or from a latent that is partly kept, to a sample, and back: what every host does around its `denoise`."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from .inpainting import held
from .noise import NoiseSource
from .options import OFFICIAL, Sampling
from .samplers import FROM_NOISE, SAMPLERS, Callback, Denoise, ddim_inverse
from .schedule import Schedule, fidelity_steps


def generate(
    denoise: Denoise,
    schedule: Schedule,
    latent: Tensor,
    noise: NoiseSource,
    sampling: Sampling = OFFICIAL,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample in the shape of `latent`, which like the result is in the diffuser's unit-variance space.

    noise:    draws x_T (or the noise on the clean latent), then one array per step.
    sampling: the sampler, its steps, eta and temperature, and the fidelity; the rest is in `denoise`.
    mask:     0..1, broadcast to latent: where to sample. Where it is 0 the latent comes back as it is, to the last bit.
    start:    start from this, the latent plus noise of the first step's sigma as `invert` gives it (then fidelity does
              not count).

    Raises ValueError for more steps than the schedule has.
    """
    from_noise = sampling.fidelity == 0 and start is None
    walk = schedule.steps(sampling.steps, FROM_NOISE[sampling.sampler] if from_noise else "official")
    if start is not None:
        x = start * sqrt(walk.alphas_cumprod[0])
        drawn = noise_of(schedule, start, latent, sampling.steps)
    elif from_noise:
        x = drawn = noise.draw(latent.shape).to(latent)
    else:
        count = fidelity_steps(sampling.steps, sampling.fidelity)
        if count == 0:
            return latent
        drawn = noise.draw(latent.shape).to(latent)
        x = schedule.q_sample(latent, walk.start(count), drawn)
        walk = walk.last(count)
    if mask is not None:
        denoise = held(denoise, schedule, latent, drawn, mask)
    x = SAMPLERS[sampling.sampler](denoise, x, walk, lambda: noise.draw(x.shape), sampling, callback)
    return x if mask is None else torch.where(mask > 0, x, latent)


def invert(
    denoise: Denoise, schedule: Schedule, latent: Tensor, sampling: Sampling = OFFICIAL, callback: Callback | None = None
) -> Tensor:
    """Find the `start` from which `generate` with "ddim", eta 0 and as many steps leads back to `latent` (DDIM inversion).

    It is data plus noise, like ComfyUI's latents with leftover noise: of variance 1 + sigma², divided by which it looks
    like pure noise. Of `sampling` the steps count.
    """
    walk = schedule.steps(sampling.steps)
    return ddim_inverse(denoise, latent, walk, callback) / sqrt(walk.alphas_cumprod[0])


def noise_of(schedule: Schedule, start: Tensor, latent: Tensor, steps: int) -> Tensor:
    """The noise of unit variance that a `start` has besides its latent."""
    walk = schedule.steps(steps)
    return schedule.noise_in(start * sqrt(walk.alphas_cumprod[0]), latent, int(walk.timesteps[0]))
