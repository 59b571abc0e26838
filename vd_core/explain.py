"""Draw what explains a model: its noise schedule, the forward process, the focus, how alike contexts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders.focus import focus
from .plots import COLORS, Curve, draw_heat_map, plot
from .sampling.noise import shared_noise
from .sampling.samplers import SAMPLERS
from .sampling.schedule import Schedule
from .sampling.spacing import choose_steps

GREY = (150, 150, 158)
SHOWN = 40  # singular values in a spectrum: twice as many as the focus tells apart


def compute_curves(schedule: Schedule) -> dict[str, Tensor]:
    """Compute `alpha`, `sigma` and `log_snr` of a schedule at each timestep, float64 [timesteps].

    alpha and sigma are the shares of data and noise (their squares add up to 1), log_snr = log(alpha² /
    sigma²) (Kingma et al. 2021).
    """
    alphas_cumprod = schedule.alphas_cumprod.double()
    return {
        "alpha": alphas_cumprod.sqrt(),
        "sigma": (1 - alphas_cumprod).sqrt(),
        "log_snr": (alphas_cumprod / (1 - alphas_cumprod)).log(),
    }


def find_visited(schedule: Schedule, n: int, sampler: str) -> Tensor:
    """List the timesteps at which a sampler calls the model from noise, descending.

    Raises ValueError as `Schedule.steps`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"The sampler is one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    return choose_steps(schedule, sampler, n).timesteps


def draw_schedule(schedule: Schedule, n: int, sampler: str) -> Tensor:
    """Draw the curves of a schedule and the timesteps that a sampler visits, [1, 3, H, W]."""
    curves, stops = compute_curves(schedule), find_visited(schedule, n, sampler)
    times = list(range(schedule.timesteps))

    def panel(names: Sequence[str], title: str, y_label: str, y: tuple[float, float] | None) -> Tensor:
        lines = [Curve(name, times, curves[name].tolist(), color=COLORS[i]) for i, name in enumerate(names)]
        dots = [
            Curve("", stops.tolist(), curves[name][stops].tolist(), "dots", COLORS[i])
            for i, name in enumerate(names)
        ]
        dots[0] = replace(dots[0], name="visited")
        return plot([*lines, *dots], title, "timestep: data at the left, noise at the right", y_label, y)[0]

    shares = panel(
        ("alpha", "sigma"),
        f"Noise schedule, {len(stops)} steps of {sampler}",
        "share of data, of noise",
        (0.0, 1.05),
    )
    ratio = panel(("log_snr",), "Signal-to-noise ratio, log_snr", "log(alpha^2 / sigma^2)", None)
    return torch.cat([shares, ratio], dim=3)


def read_timesteps(text: str, schedule: Schedule) -> list[int]:
    """Read timesteps written with spaces or commas between.

    Raises ValueError for none, for other words, and for those out of range.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) < schedule.timesteps for word in words):
        raise ValueError(
            f"timesteps are numbers from 0 (data) to {schedule.timesteps - 1} (noise) with spaces between, "
            f"got {text[:60]!r}."
        )
    return [int(word) for word in words]


def diffuse_to_timesteps(schedule: Schedule, x0: Tensor, timesteps: Sequence[int], seed: int) -> Tensor:
    """Diffuse a latent [1, …] of unit variance to each timestep, [len(timesteps), …], with the same noise.

    q(x_t | x_0) of Sohl-Dickstein et al. 2015 in the closed form of Ho et al. 2020, eq. 4.
    """
    if len(x0) != 1:
        raise ValueError(f"The forward process is shown of one picture, got {len(x0)}.")
    latents = x0.expand(len(timesteps), *x0.shape[1:])
    return schedule.q_sample(
        latents, torch.tensor(timesteps), shared_noise(seed).draw(latents.shape).to(latents)
    )


def write_labels(schedule: Schedule, timesteps: Sequence[int]) -> list[str]:
    """Write what stands under the pictures of `diffuse_to_timesteps`."""
    curves = compute_curves(schedule)
    return [f"t = {t}: {curves['alpha'][t]:.2f} data, {curves['sigma'][t]:.2f} noise" for t in timesteps]


def measure_focus(patches: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Measure what patch tokens [n, d] hold of each principal component before and after the focus.

    The singular values of the tokens without their means, each [min(n, d)].
    """
    u, before, v = torch.linalg.svd(subtract_means(patches), full_matrices=False)
    after = torch.einsum("nk,nd,kd->k", u, subtract_means(focus(patches[None], level)[0]), v)
    return before, after


def subtract_means(patches: Tensor) -> Tensor:
    """Subtract from tokens [n, d] their means over the features."""
    return patches.float() - patches.float().mean(dim=-1, keepdim=True)


def draw_focus(patches: Tensor, level: float) -> Tensor:
    """Draw `measure_focus` of patch tokens [n, d], [1, 3, H, W]."""
    before, after = measure_focus(patches, level)
    shown = min(SHOWN, len(before))
    ranks = list(range(1, shown + 1))
    energy = [
        float(100 * (x[:2].square().sum() / x.square().sum())) if x.any() else 0.0 for x in (before, after)
    ]
    curves = [
        Curve("as it is", ranks, before[:shown].tolist(), "bars", GREY),
        Curve(f"with focus {level:g}", ranks, after[:shown].tolist(), "dots", COLORS[1]),
    ]
    title = f"First two components: {energy[0]:.0f} % of the energy, with the focus {energy[1]:.0f} %"
    highest = max(float(torch.cat([before, after]).max()), 1e-6)
    return plot(curves, title, "component of the patch tokens", "singular value", (0.0, 1.05 * highest))[0]


def compute_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Compute the cosines between tokens [n, d] and [m, d], [n, m]; tokens that are zero are like nothing.

    Raises ValueError for tokens of different widths.
    """
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"Only contexts of one width can be compared, got {first.shape[-1]} and {second.shape[-1]}."
        )
    return F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).T


def draw_similarity(first: Tensor, second: Tensor, picture: Tensor | None = None) -> Tensor:
    """Draw the cosines of all tokens of two contexts, [n, d] and [m, d], as [1, 3, H, W].

    With the picture [3, S, S] that the first one saw, also how well each of its patches is found in the
    second (the largest cosine). Raises ValueError when it is not its picture.
    """
    cosines = compute_similarity(first, second)
    matrix = draw_heat_map(cosines, "Cosine of all tokens", "token of context 2", "token of context 1")[0]
    if picture is None:
        return matrix
    side = round((len(first) - 1) ** 0.5)
    if side**2 + 1 != len(first):
        raise ValueError(
            f"Context 1 has {len(first)} tokens, which is no square of patches and a global token: leave out "
            "image."
        )
    best = cosines[1:].amax(dim=1).reshape(side, side)
    title = f"Patches found in context 2; global tokens: {float(cosines[0, 0]):.2f}"
    found = draw_heat_map(best, title, "largest cosine of each patch", "", over=picture)[0]
    return torch.cat([found, matrix], dim=3)
