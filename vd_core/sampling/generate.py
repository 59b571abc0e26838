"""From noise, or from a latent that is partly kept, to a sample, and back: what every host does around its `denoise`."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from .inpainting import held
from .noise import BatchNoise, SampleNoise
from .samplers import FROM_NOISE, SAMPLERS, Callback, Denoise, ddim_inverse
from .schedule import Schedule, fidelity_steps


def generate(
    denoise: Denoise,
    schedule: Schedule,
    latent: Tensor,
    noise: BatchNoise | SampleNoise,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    fidelity: float = 0.0,
    sampler: str = "ddim",
    steps: int = 50,
    eta: float = 0.0,
    temperature: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Sample in the shape of `latent`, which like the result is in the diffuser's unit-variance space.

    mask:     0..1, broadcast to latent: where to sample. Where it is 0 the latent comes back as it is, to the last bit.
    start:    start from this, the latent plus noise of the first step's sigma as `invert` gives it (then fidelity does not count).
    fidelity: 0 starts from noise and only takes latent's shape; up to 1, which returns the latent, more of it is kept.
    noise:    draws x_T (or the noise on the clean latent), then one array per step.

    Raises ValueError for unknown samplers and values out of range.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"The sampler is one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    from_noise = fidelity == 0 and start is None
    walk = schedule.steps(steps, FROM_NOISE[sampler] if from_noise else "official")
    if start is not None:
        x = start * sqrt(walk.alphas_cumprod[0])
        drawn = noise_of(schedule, start, latent, steps)
    elif from_noise:
        x = drawn = noise.draw(latent.shape).to(latent)
    else:
        count = fidelity_steps(steps, fidelity)
        if count == 0:
            return latent
        drawn = noise.draw(latent.shape).to(latent)
        x = schedule.q_sample(latent, walk.start(count), drawn)
        walk = walk.last(count)
    if mask is not None:
        denoise = held(denoise, schedule, latent, drawn, mask)
    x = SAMPLERS[sampler](denoise, x, walk, lambda: noise.draw(x.shape), eta=eta, temperature=temperature, callback=callback)
    return x if mask is None else torch.where(mask > 0, x, latent)


def invert(denoise: Denoise, schedule: Schedule, latent: Tensor, *, steps: int = 50, callback: Callback | None = None) -> Tensor:
    """The `start` from which `generate` with "ddim", eta 0 and as many steps leads back to `latent` (DDIM inversion).

    It is data plus noise, like ComfyUI's latents with leftover noise: of variance 1 + sigma², divided by which it looks like pure noise.
    """
    walk = schedule.steps(steps)
    return ddim_inverse(denoise, latent, walk, callback) / sqrt(walk.alphas_cumprod[0])


def noise_of(schedule: Schedule, start: Tensor, latent: Tensor, steps: int) -> Tensor:
    """The noise of unit variance that a `start` has besides its latent."""
    walk = schedule.steps(steps)
    return schedule.noise_in(start * sqrt(walk.alphas_cumprod[0]), latent, int(walk.timesteps[0]))
