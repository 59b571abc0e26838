"""Which timesteps a sampler visits, and which level of noise each step leads to.

"official", "quadratic" and "sgm_uniform" end at timestep 0 (`Schedule.steps`). The others are those of
diffusers' schedulers, each with the rules of the scheduler that goes with the sampler, so that what was tuned
there gives the same samples here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..choices import OFFICIAL_SPACINGS
from .schedule import Schedule, Steps
from .shift import UNSHIFTED

# Few steps of higher order work better with more of them near the data, and few large ones are learned from
# the noisiest timestep on. Starts other than from noise keep the official spacing, so that a fidelity means
# the same to every sampler.
FROM_NOISE = {"dpmpp_2m": "quadratic", "unipc": "quadratic", "ddgan": "sgm_uniform", "lcm": "sgm_uniform"}
TO_DATA = ("dpmpp_2m", "unipc", "euler")  # in diffusers these end at pure data, the others at timestep 0
RHO = 7.0  # of Karras et al. 2022, eq. 5


def choose_steps(
    schedule: Schedule,
    sampler: str,
    n: int,
    spacing: str | None = None,
    timesteps: Sequence[float] | None = None,
    from_noise: bool = True,
) -> Steps:
    """Choose the steps of a sampler.

    n:          how many, 1 to the schedule's timesteps; with explicit timesteps it does not count.
    spacing:    one of `SPACINGS`; None is "official", or from noise that of `FROM_NOISE`.
    timesteps:  exactly these, descending; fractions where sigma is interpolated.
    from_noise: whether the first step is at pure noise; matters only where `spacing` is None.

    Raises ValueError for steps, spacings and timesteps that do not fit the schedule, the sampler or each
    other.
    """
    if timesteps is not None:
        if not all(0 <= t <= schedule.timesteps - 1 for t in timesteps):
            raise ValueError(
                f"timesteps must lie between 0 and {schedule.timesteps - 1}, got {list(timesteps)[:8]}."
            )
        steps = make_explicit_steps(schedule, sampler, np.asarray(timesteps, dtype=np.float64))
    elif spacing is None or spacing in OFFICIAL_SPACINGS:
        steps = schedule.steps(
            n, spacing or (FROM_NOISE.get(sampler, "official") if from_noise else "official")
        )
    else:
        steps = make_diffusers_steps(schedule, sampler, n, spacing)
    if schedule.shift != UNSHIFTED and (timesteps is not None or spacing not in (None, *OFFICIAL_SPACINGS)):
        raise ValueError(
            f"A shift moves the steps of the spacings {' and '.join(OFFICIAL_SPACINGS)} only: choose one "
            "of these."
        )
    return steps


def make_explicit_steps(schedule: Schedule, sampler: str, timesteps: np.ndarray) -> Steps:
    """Make the steps at these timesteps, each leading to the next, the last as diffusers' scheduler ends."""
    alphas = schedule.alphas_at(timesteps)
    return make_steps(
        timesteps, np.append(alphas, 1.0 if sampler in TO_DATA else schedule.alphas_at(np.zeros(1)))
    )


def make_diffusers_steps(schedule: Schedule, sampler: str, n: int, spacing: str) -> Steps:
    """Make n steps as diffusers' scheduler of that sampler. Raises ValueError for ones that it lacks."""
    if not 1 <= n <= schedule.timesteps:
        raise ValueError(f"The number of steps lies between 1 and {schedule.timesteps}, got {n}.")
    if spacing.startswith("karras"):
        return make_karras_steps(schedule, sampler, n, spacing.removeprefix("karras").strip())
    timesteps = space_diffusers_timesteps(sampler, spacing, n, schedule.timesteps)
    if sampler in TO_DATA:
        return make_explicit_steps(schedule, sampler, timesteps)
    # DDIM, DDPM and PNDM lead a whole stride lower, wherever the next timestep is, and never below 0.
    targets = schedule.alphas_at((timesteps - schedule.timesteps // n).clip(min=0))
    return make_steps(timesteps, np.append(schedule.alphas_at(timesteps), targets[-1]), targets)


def space_diffusers_timesteps(sampler: str, spacing: str, n: int, total: int) -> np.ndarray:
    """Space n timesteps, descending, whole but for Euler's "linspace".

    "leading" is offset by 1, as Stable Diffusion's.
    """
    if spacing == "trailing":
        return np.round(np.arange(total, 0, -total / n)[:n]) - 1  # rounding may leave one more, at -1
    points = n + 1 if sampler in ("dpmpp_2m", "unipc") else n  # these leave out the cleanest
    if spacing == "leading":
        spaced = np.arange(points) * (total // points) + 1.0
    else:
        spaced = np.linspace(0, total - 1, points)
        spaced = spaced if sampler == "euler" else spaced.round()
    if spaced[-1] > total - 1:
        raise ValueError(
            f"The spacing leading has no {n} steps for {sampler} in {total} timesteps: take fewer."
        )
    return spaced[::-1][:n].copy()


def make_karras_steps(schedule: Schedule, sampler: str, n: int, spacing: str) -> Steps:
    """Make n steps evenly spaced in sigma^(1/7) between the model's largest and smallest sigma.

    Karras et al. 2022, eq. 5. The multistep solvers tell the network the nearest whole timestep, as diffusers
    does, Euler the exact one. Euler's ends may also be those of "leading" or "trailing". Raises ValueError
    for samplers that have no such steps.
    """
    if sampler not in TO_DATA or spacing and sampler != "euler":
        name = f"karras {spacing}".rstrip()
        raise ValueError(f"The spacing {name} is not for {sampler}: choose euler, or another one.")
    total = schedule.timesteps
    ends = (
        space_diffusers_timesteps(sampler, spacing, n, total)[[0, -1]]
        if spacing
        else np.array([total - 1.0, 0.0])
    )
    highest, lowest = schedule.sigmas_at(ends) ** (1 / RHO)
    sigmas = (highest + np.linspace(0, 1, n) * (lowest - highest)) ** RHO
    every = np.arange(total, dtype=np.float64)
    timesteps = np.interp(np.log(sigmas), np.log(schedule.sigmas_at(every)), every)
    alphas = np.append(1 / (1 + sigmas**2), 1.0)
    return make_steps(timesteps if sampler == "euler" else timesteps.round(), alphas, alphas[1:])


def make_steps(timesteps: np.ndarray, alphas: np.ndarray, targets: np.ndarray | None = None) -> Steps:
    """Put arrays into `Steps`; timesteps become whole numbers where they all are."""
    whole = bool((timesteps == timesteps.round()).all())
    visited = torch.from_numpy(timesteps.astype(np.int64) if whole else timesteps)
    return Steps(visited, torch.from_numpy(alphas), None if targets is None else torch.from_numpy(targets))


def warm_up(schedule: Schedule, steps: Steps, stride: int, whole: bool) -> Steps:
    """Make PNDM's second step the first one again, from a stride above the second timestep to that timestep.

    stride: in timesteps.
    whole:  the way begins at noise, so the second timestep is visited once more; diffusers leaves that out
            where a latent is partly kept.
    """
    if len(steps) < 2:
        return steps
    again = float(steps.timesteps[1])
    above = schedule.alphas_at(np.array([min(again + stride, schedule.timesteps - 1.0)]))
    order = [0, 1, *range(1, len(steps))] if whole else [*range(len(steps))]
    alphas, targets = steps.alphas_cumprod[[*order, -1]].clone(), steps.ends[order].clone()
    alphas[1], targets[1] = torch.from_numpy(above), float(steps.alphas_cumprod[1])
    return Steps(steps.timesteps[order], alphas, targets)
