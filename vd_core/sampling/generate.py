"""From noise, or from a latent that is partly kept, to a sample: what every host does around its `denoise`."""

from __future__ import annotations

from torch import Tensor

from .noise import BatchNoise, SampleNoise
from .samplers import FROM_NOISE, SAMPLERS, Callback, Denoise
from .schedule import Schedule, fidelity_steps


def generate(
    denoise: Denoise,
    schedule: Schedule,
    latent: Tensor,
    noise: BatchNoise | SampleNoise,
    *,
    fidelity: float = 0.0,
    noisy: bool = False,
    sampler: str = "ddim",
    steps: int = 50,
    eta: float = 0.0,
    temperature: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Sample in the shape of `latent`, which like the result is in the diffuser's unit-variance space.

    fidelity: 0 starts from noise and only takes latent's shape; up to 1, which returns the latent, more of it is kept.
    noisy:    start from `latent` itself, as scaled noise of the first step (then fidelity does not count).
    noise:    draws x_T (or the noise on the clean latent), then one array per step.

    Raises ValueError for unknown samplers and values out of range.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"The sampler is one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    from_noise = fidelity == 0 and not noisy
    walk = schedule.steps(steps, FROM_NOISE[sampler] if from_noise else "official")
    if noisy:
        x = latent
    elif from_noise:
        x = noise.draw(latent.shape).to(latent)
    else:
        count = fidelity_steps(steps, fidelity)
        if count == 0:
            return latent
        x = schedule.q_sample(latent, walk.start(count), noise.draw(latent.shape).to(latent))
        walk = walk.last(count)
    return SAMPLERS[sampler](denoise, x, walk, lambda: noise.draw(x.shape), eta=eta, temperature=temperature, callback=callback)
