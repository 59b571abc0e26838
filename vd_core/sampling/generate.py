"""Sample from noise or from a partly kept latent, and invert: what every host does with its `denoise`."""

from __future__ import annotations

import logging
from math import sqrt

import torch
from torch import Tensor

from .energy import steer
from .inpainting import inpaint
from .low_pass import guide_low_pass
from .noise import GivenNoise, NoiseSource
from .options import OFFICIAL, Sampling
from .samplers import SAMPLERS, Callback, Denoise, ddim_inverse
from .schedule import Schedule, Steps, count_fidelity_steps
from .spacing import choose_steps, warm_up

log = logging.getLogger(__name__)


def generate(
    denoise: Denoise,
    schedule: Schedule,
    latent: Tensor,
    noise: NoiseSource,
    sampling: Sampling = OFFICIAL,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    latent_scale: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Sample in the shape of `latent`, which like the result is in the diffuser's unit-variance space.

    denoise:      (x, t) -> eps, with the host's guidance. What else acts on a prediction is put around it
                  here, in order: low-pass guidance, energies, the inpainting mask.
    noise:        draws x_T (or the noise on the clean latent), then one array per step.
    mask:         0..1, broadcast to latent: where to sample. Where it is 0 the latent comes back unchanged,
                  to the last bit.
    start:        start from this, the latent plus noise of the first step's sigma as `invert` gives it (then
                  fidelity does not count).
    latent_scale: takes unscaled latents, those of `sampling`, to the diffuser's space.

    Raises ValueError for steps that the schedule does not have, for a `start` with other steps than the
    official ones, and for noise that is given as one tensor where the sampler draws more.
    """
    if isinstance(noise, GivenNoise) and sampling.draws_noise:
        raise ValueError(
            f"Noise given as a tensor is that of the start, but {sampling.sampler} draws more on its way: "
            "give a seed or a generator, or eta 0."
        )
    x, drawn, steps = begin(schedule, latent, noise, sampling, start)
    denoise = guide_low_pass(denoise, schedule, sampling.low_pass, latent_scale)
    denoise = steer(denoise, schedule, sampling.energies, latent_scale)
    denoise = inpaint(denoise, schedule, latent, drawn, mask)
    # `run_sampler` in place: whoever reads a traceback meets one function less on the way to the network.
    trajectory = SAMPLERS[sampling.sampler](denoise, x, steps, lambda: noise.draw(latent.shape), sampling)
    for i, (x, x0) in enumerate(trajectory):
        if callback is not None:
            callback(i, len(steps), x, x0)
    return x if mask is None else torch.where(mask > 0, x, latent)


def begin(
    schedule: Schedule, latent: Tensor, noise: NoiseSource, sampling: Sampling, start: Tensor | None = None
) -> tuple[Tensor, Tensor, Steps]:
    """Choose where a sampler starts: x, the noise of unit variance in it, and the steps from there."""
    if start is not None:
        check_official(sampling)
        steps = schedule.steps(sampling.steps)
        drawn = find_noise(schedule, start, latent, sampling.steps)
        return start * sqrt(steps.alphas_cumprod[0]), drawn, steps
    steps = choose_steps(
        schedule, sampling.sampler, sampling.steps, sampling.spacing, sampling.timesteps, sampling.from_noise
    )
    count = len(steps) if sampling.from_noise else count_steps_left(steps, sampling)
    if count == 0:  # nothing is drawn, as in the official app
        if 0 < sampling.fidelity < 1:
            log.warning(
                "A fidelity of %g leaves none of %d steps to run: the latent comes back as it is.",
                sampling.fidelity,
                len(steps),
            )
        return latent, torch.zeros_like(latent), steps.last(0)
    x = drawn = noise.draw(latent.shape).to(latent)
    if not sampling.from_noise:
        place = len(steps) - count if sampling.starts_same else steps.one_above(count)
        x = diffuse_to(schedule, steps, place, latent, drawn)
    left = steps.last(count)
    if sampling.sampler == "pndm":
        left = warm_up(schedule, left, schedule.timesteps // sampling.steps, count == len(steps))
    return x, drawn, left


def check_official(sampling: Sampling) -> None:
    """Raise ValueError for steps other than the official ones, the only ones of inversion."""
    if sampling.timesteps is not None or sampling.spacing not in (None, "official"):
        raise ValueError(
            "Inversion, and a start that it found, need the official steps: leave spacing and timesteps out."
        )


def count_steps_left(steps: Steps, sampling: Sampling) -> int:
    """Count the steps that run from a latent that is partly kept; 0 means: return that latent."""
    if sampling.strength is None:
        return count_fidelity_steps(sampling.steps, sampling.fidelity)
    # truncated, as in diffusers
    return len(steps) if sampling.strength == 1 else int(sampling.steps * sampling.strength)


def diffuse_to(schedule: Schedule, steps: Steps, place: int, latent: Tensor, noise: Tensor) -> Tensor:
    """Add noise to a latent, to the level of one of the steps."""
    t, alpha = steps.timesteps[place].item(), float(steps.alphas_cumprod[place])
    if alpha == schedule.alpha(t):
        return schedule.q_sample(latent, t, noise)
    # a level between those of the timesteps
    return sqrt(alpha) * latent + sqrt(1 - alpha) * noise


def invert(
    denoise: Denoise,
    schedule: Schedule,
    latent: Tensor,
    sampling: Sampling = OFFICIAL,
    *,
    latent_scale: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Find the `start` from which "ddim" at eta 0 with the same options leads back to `latent`.

    This is DDIM inversion. The result is data plus noise, like ComfyUI's latents with leftover noise, of
    variance 1 + sigma²; divided by its root it looks like pure noise. Raises ValueError for other steps than
    the official ones.
    """
    check_official(sampling)
    steps = schedule.steps(sampling.steps)
    denoise = guide_low_pass(denoise, schedule, sampling.low_pass, latent_scale)
    denoise = steer(denoise, schedule, sampling.energies, latent_scale)
    return ddim_inverse(denoise, latent, steps, callback) / sqrt(steps.alphas_cumprod[0])


def find_noise(schedule: Schedule, start: Tensor, latent: Tensor, steps: int) -> Tensor:
    """Find the noise of unit variance in a `start`, which is latent plus noise."""
    walk = schedule.steps(steps)
    return schedule.noise_in(start * sqrt(walk.alphas_cumprod[0]), latent, int(walk.timesteps[0]))
