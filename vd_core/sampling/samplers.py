"""Samplers: from noise to data through any denoiser. They know nothing of models, contexts or guidance.

Each is a generator with the same arguments, which `run_sampler` runs:

denoise:  (x, t) -> eps, the noise in x at timestep t.
x:        where to start, any shape [B, …], in the variance-preserving space (unit-variance data) at the first
          step.
steps:    the timesteps to visit; one call of `denoise` each.
noise:    () -> standard normal noise of x's shape; moved to x's device and dtype here.
sampling: the options. DDIM reads its eta and temperature, DDPM, DDGAN and LCM their temperature, the others
          none of it.

It yields (x, x0) after every step: the new x, and the data predicted in that step, which is never clipped.
Coefficients are float64 numbers on the host, so they meet x in its own dtype on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import expm1, log, sqrt
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # the options name the samplers, and the help of commands, which needs no torch
    from torch import Tensor

    from .options import Sampling
    from .schedule import Steps

Denoise = Callable[["Tensor", float], "Tensor"]
Noise = Callable[[], "Tensor"]
Callback = Callable[[int, int, "Tensor", "Tensor"], None]
Trajectory = Iterator[tuple["Tensor", "Tensor"]]
Level = TypeVar("Level", float, "Tensor")


def run_sampler(
    denoise: Denoise,
    x: Tensor,
    steps: Steps,
    noise: Noise,
    sampling: Sampling,
    callback: Callback | None = None,
) -> Tensor:
    """Run the sampler of `sampling` from x over all steps and return the last x; without steps, x itself.

    callback: (i, total, x, x0) after step i = 0..total-1. Raise from it to stop.

    The other arguments are those of the samplers.
    """
    trajectory = SAMPLERS[sampling.sampler](denoise, x, steps, noise, sampling)
    for i, (x, x0) in enumerate(trajectory):
        if callback is not None:
            callback(i, len(steps), x, x0)
    return x


def predict_x0(x: Tensor, eps: Tensor, alpha: float) -> Tensor:
    """Return the data that x is made of when eps is its noise and `alpha` its alphas_cumprod."""
    return (x - sqrt(1 - alpha) * eps) / sqrt(alpha)


def half_log_snr(alpha: float) -> float:
    """Return the lambda of DPM-Solver, log(sqrt(alpha) / sqrt(1 - alpha)): its time."""
    return 0.5 * log(alpha / (1 - alpha))


def data_step(x: Tensor, x0: Tensor, alpha: float, alpha_next: float) -> Tensor:
    """Solve the diffusion ODE from `alpha` to `alpha_next` for constant predicted data x0.

    Lu et al. 2022, proposition 4.1. At alpha_next 1, pure data, that is x0.
    """
    if alpha_next == 1:
        return x0
    h = half_log_snr(alpha_next) - half_log_snr(alpha)
    return sqrt((1 - alpha_next) / (1 - alpha)) * x - sqrt(alpha_next) * expm1(-h) * x0


def extrapolate(x0: Tensor, alpha: float, alpha_next: float, before: tuple[float, Tensor]) -> Tensor:
    """Predict data for the middle of the next step, on the line through the last two predictions.

    before: the earlier one, (alpha, x0). A step to pure data has no middle: it is of first order.
    """
    if alpha_next == 1:
        return x0
    alpha_before, x0_before = before
    now = half_log_snr(alpha)
    r = (now - half_log_snr(alpha_before)) / (half_log_snr(alpha_next) - now)
    return x0 + (x0 - x0_before) / (2 * r)


def interpolate(past: list[tuple[float, Tensor]], alpha: float, x0: Tensor) -> Tensor:
    """Find the constant data with which `data_step` corrects the step from the last of `past` to now.

    past: the last one or two predictions, (alpha, x0). Exact where predicted data is the parabola, in
          half_log_snr, through these two and the prediction now; of one it is the mean with that now.
    """
    alpha_start, x0_start = past[-1]
    if len(past) == 1:
        return (x0_start + x0) / 2
    alpha_before, x0_before = past[-2]
    start = half_log_snr(alpha_start)
    h = half_log_snr(alpha) - start
    r = (half_log_snr(alpha_before) - start) / h
    phi_1 = -expm1(-h) / h
    phi_2 = (1 - phi_1) / h
    phi_3 = (1 / 2 - phi_2) / h
    b_1, b_2 = phi_2 / phi_1, 2 * phi_3 / phi_1
    rho = (b_1 - b_2) / (1 - r)
    return x0_start + rho / r * (x0_before - x0_start) + (b_1 - rho) * (x0 - x0_start)


def ddim(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by DDIM (Song et al. 2021, eq. 12), the official sampler of Versatile Diffusion."""
    sigmas = steps.compute_ddim_sigmas(sampling.eta).tolist()
    for (t, alpha, alpha_next), sigma in zip(steps, sigmas, strict=True):
        eps = denoise(x, t)
        x0 = predict_x0(x, eps, alpha)
        # Quirk kept: noise is drawn even at eta 0; later readers of the random stream depend on that.
        fresh = noise().to(x)
        x = (
            sqrt(alpha_next) * x0
            + sqrt(1 - alpha_next - sigma**2) * eps
            + sigma * sampling.temperature * fresh
        )
        yield x, x0


def euler(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by Euler's method (Karras et al. 2022): d(x / sqrt(alpha)) / d sigma = eps, sigma = sqrt(1 /
    alpha - 1).

    In the variance-preserving space that is exactly DDIM at eta 0 (Song et al. 2021, eq. 14), whatever the
    eta of the options.
    """
    return ddim(denoise, x, steps, noise, replace(sampling, eta=0.0))


def posterior(alpha: Level, alpha_next: Level) -> tuple[Level, Level, Level]:
    """Return the posterior q(x_next | x, x0) of a step of any size between two alphas_cumprod.

    As the factor of x0, the factor of x, and the standard deviation of the noise (Ho et al. 2020, eq. 6, 7).
    """
    beta = 1 - alpha / alpha_next
    data = alpha_next**0.5 * beta / (1 - alpha)
    noisy = (1 - beta) ** 0.5 * (1 - alpha_next) / (1 - alpha)
    return data, noisy, ((1 - alpha_next) / (1 - alpha) * beta) ** 0.5


def draw_next(
    x: Tensor, x0: Tensor, alpha: float, alpha_next: float, temperature: float, noise: Noise
) -> Tensor:
    """Draw x at the next level from the `posterior`, its noise scaled by the temperature."""
    to_data, to_x, deviation = posterior(alpha, alpha_next)
    return to_data * x0 + to_x * x + deviation * temperature * noise().to(x)


def ddpm(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample as DDPM does, ancestrally, over any set of visited steps (Ho et al. 2020, algorithm 2)."""
    for t, alpha, alpha_next in steps:
        x0 = predict_x0(x, denoise(x, t), alpha)
        x = draw_next(x, x0, alpha, alpha_next, sampling.temperature, noise)
        yield x, x0


def ddgan(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by DDPM that ends with the data predicted in its last step (Xiao et al. 2022).

    For few large steps with models that draw their data as DDGAN's generator does, those of
    `python -m vd_core distill`.
    """
    for i, (t, alpha, alpha_next) in enumerate(steps):
        x0 = predict_x0(x, denoise(x, t), alpha)
        last = i + 1 == len(steps)
        x = x0 if last else draw_next(x, x0, alpha, alpha_next, sampling.temperature, noise)
        yield x, x0


def lcm(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample in several consistency steps, for consistency models and their LoRAs (Luo et al. 2023, algorithm
    3).

    Noise is added to the data predicted in each step but the last.
    """
    for i, (t, alpha, alpha_next) in enumerate(steps):
        x = x0 = predict_x0(x, denoise(x, t), alpha)
        if i + 1 < len(steps):
            x = sqrt(alpha_next) * x0 + sqrt(1 - alpha_next) * sampling.temperature * noise().to(x)
        yield x, x0


def dpmpp_2m(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): order 2 from the last two predictions."""
    before: tuple[float, Tensor] | None = None
    for t, alpha, alpha_next in steps:
        x0 = predict_x0(x, denoise(x, t), alpha)
        middle = x0 if before is None else extrapolate(x0, alpha, alpha_next, before)
        x = data_step(x, middle, alpha, alpha_next)
        before = alpha, x0
        yield x, x0


def unipc(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by UniPC-2 (Zhao et al. 2023, algorithms 1 and 2) for predicted data, with B(h) = exp(h) - 1:
    order 3.

    The predictor UniP-2 with this B is the step of DPM-Solver++(2M). The corrector UniC-2 repeats the last
    step with the prediction at its end, which the next step needs anyway, so a step costs one evaluation; the
    result itself is not corrected.
    """
    start = x
    past: list[tuple[float, Tensor]] = []
    for t, alpha, alpha_next in steps:
        x0 = predict_x0(x, denoise(x, t), alpha)
        if past:
            x = data_step(start, interpolate(past, alpha, x0), past[-1][0], alpha)
        middle = extrapolate(x0, alpha, alpha_next, past[-1]) if past else x0
        start, past = x, [*past[-1:], (alpha, x0)]
        x = data_step(x, middle, alpha, alpha_next)
        yield x, x0


def pndm(denoise: Denoise, x: Tensor, steps: Steps, noise: Noise, sampling: Sampling) -> Trajectory:
    """Sample by PNDM without Runge-Kutta steps, as Stable Diffusion ran it (Liu et al. 2022, eq. 9; "PLMS").

    DDIM's step with the noise that the last four predictions extrapolate (Adams-Bashforth). The second of
    `steps` warms up: it starts where the first did, with the mean of the noise at both its ends.
    """
    past: list[Tensor] = []
    start = x
    for i, (t, alpha, alpha_next) in enumerate(steps):
        eps = denoise(x, t)
        if i == 1:
            x, eps = start, (eps + past[0]) / 2
        else:
            past = [*past[-3:], eps]
            weights = ADAMS_BASHFORTH[len(past) - 1]
            eps = weights[0] * past[0]
            for weight, before in zip(weights[1:], past[1:], strict=True):
                eps = eps + weight * before
        x0 = predict_x0(x, eps, alpha)
        x = sqrt(alpha_next) * x0 + sqrt(1 - alpha_next) * eps
        yield x, x0


# Weights of the last one to four predictions, the latest last.
ADAMS_BASHFORTH = (
    (1.0,),
    (-1 / 2, 3 / 2),
    (5 / 12, -16 / 12, 23 / 12),
    (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
)


def ddim_inverse(denoise: Denoise, x: Tensor, steps: Steps, callback: Callback | None = None) -> Tensor:
    """Find the noise from which `ddim` at eta 0 leads back to data x (Song et al. 2021, section 4.3).

    The diffusion ODE in reverse, by DDIM's step with the prediction at the cleaner end. The way back uses the
    one at the noisier end, so it misses x by an error that falls as 1 / len(steps). One call of `denoise`
    per step, the first at timestep 0; callback as that of `run_sampler`.
    """
    for i, (t, alpha, alpha_next) in enumerate(steps.upward()):
        eps = denoise(x, t)
        x0 = predict_x0(x, eps, alpha)
        x = sqrt(alpha_next) * x0 + sqrt(1 - alpha_next) * eps
        if callback is not None:
            callback(i, len(steps), x, x0)
    return x


SAMPLERS: dict[str, Callable[[Denoise, Tensor, Steps, Noise, Sampling], Trajectory]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
    "pndm": pndm,
    "ddgan": ddgan,
    "lcm": lcm,
}
