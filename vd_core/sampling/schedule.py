"""The noise schedule, and which of its timesteps a sampler visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import ScheduleConfig
from .shift import UNSHIFTED, ResolutionShift


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a sampler from noise to data, on the CPU.

    timesteps:      [m], descending, what the network is told; fractions too, and one twice where `targets`
                    say where it leads.
    alphas_cumprod: [m + 1] float64, ascending above 0: entry j belongs to timesteps[j], the last one to the
                    result; only that may be 1, pure data.
    targets:        [m] float64, the level that each step leads to; None = that of the next. Some samplers of
                    diffusers lead elsewhere than where the next one begins.

    Raises ValueError when they do not belong together.
    """

    timesteps: Tensor
    alphas_cumprod: Tensor
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        m = len(self.timesteps)
        if len(self.alphas_cumprod) != m + 1 or self.targets is not None and len(self.targets) != m:
            raise ValueError(
                f"{m} timesteps need {m + 1} values of alphas_cumprod, got {len(self.alphas_cumprod)}."
            )
        if self.alphas_cumprod[0] <= 0 or self.alphas_cumprod[-1] > 1 or (self.ends > 1).any():
            raise ValueError("alphas_cumprod must lie between 0 and 1, 0 excluded.")
        if self.targets is None and (self.timesteps.diff() >= 0).any():
            raise ValueError("The timesteps of a sampler must be strictly descending.")
        if self.targets is None and (self.alphas_cumprod.diff() <= 0).any():
            raise ValueError("alphas_cumprod must be strictly ascending.")

    def __len__(self) -> int:
        return len(self.timesteps)

    def __iter__(self) -> Iterator[tuple[float, float, float]]:
        """Yield (timestep, alphas_cumprod there, alphas_cumprod after the step), the noisiest first."""
        return zip(self.timesteps.tolist(), self.alphas_cumprod.tolist(), self.ends.tolist(), strict=False)

    @property
    def ends(self) -> Tensor:
        """alphas_cumprod after each step, float64 [m]."""
        return self.alphas_cumprod[1:] if self.targets is None else self.targets

    def upward(self) -> Iterator[tuple[float, float, float]]:
        """Yield (timestep, alphas_cumprod there, alphas_cumprod one step noisier), from timestep 0 up."""
        alphas = self.alphas_cumprod.flip(0).tolist()
        return zip([0, *self.timesteps.flip(0).tolist()], alphas, alphas[1:], strict=False)

    def last(self, k: int) -> Steps:
        """Keep the k cleanest steps, 0..len(self): what is left to do when starting from a clean latent."""
        if not 0 <= k <= len(self):
            raise ValueError(f"Only 0 to {len(self)} of {len(self)} steps can be run, got {k}.")
        first = len(self) - k
        targets = None if self.targets is None else self.targets[first:]
        return Steps(self.timesteps[first:], self.alphas_cumprod[first:], targets)

    def compute_ddim_sigmas(self, eta: float) -> Tensor:
        """Compute the standard deviation of the noise that each DDIM step adds, float64 [m].

        eta: 0..1, from none to that of DDPM's posterior (Song et al. 2021, eq. 16).
        """
        alphas, ends = self.alphas_cumprod[:-1], self.ends
        return eta * ((1 - ends) / (1 - alphas) * (1 - alphas / ends)).sqrt()

    def one_above(self, k: int) -> int:
        """Return the place of the step before the last k, or of the first where there is none.

        Quirk kept: to the level of this one the official sampler noises a clean latent before the last k run,
        one higher than they assume, as Stable Diffusion's img2img did. With all steps there is none higher
        (the official code fails): the noisiest one is used.
        """
        return max(len(self) - 1 - k, 0)


def count_fidelity_steps(n: int, fidelity: float) -> int:
    """Count the steps that run of n where a clean latent is kept at `fidelity` 0..1; 0 returns that latent.

    Quirk kept: the official app truncates n * (1 - fidelity) with its rounding error, so 50 steps at 0.8 give
    9 and not 10.
    """
    return int(n * (1 - fidelity))


def space_official_timesteps(n: int, total: int) -> np.ndarray:
    """Return the official DDIM timesteps, ascending: every (total // n)-th plus 1, as 1, 21, …, 981 for 50.

    Quirks kept: rounding the stride down may give more than n (30 give 31), and the last one may be far from
    pure noise (2 give 1, 501). The shift may lead to `total` itself, where the official code fails:
    `Schedule.steps` lets total - 1 stand in for it.
    """
    return np.arange(0, total, total // n) + 1


def space_quadratic_timesteps(n: int, total: int) -> np.ndarray:
    """Space n timesteps from 1 to total - 1, ascending, denser towards the data.

    Song et al. 2021, appendix D.2. Evenly spaced timesteps make steps of log-SNR that grow towards the data;
    with these, samplers of higher order beat DDIM at few steps.
    """
    rounded = (
        np.rint(1 + (total - 2) * np.linspace(0, 1, n) ** 2).astype(np.int64)
        if n > 1
        else np.array([total - 1])
    )
    return np.maximum(rounded, np.arange(1, n + 1))  # at many steps the first ones would round to the same


def space_sgm_uniform_timesteps(n: int, total: int) -> np.ndarray:
    """Space n timesteps evenly, ascending, int64, the noisiest among them: for few large steps from noise.

    This is ComfyUI's "sgm_uniform" (Lin et al. 2024, section 3.3, "trailing"); diffusers' "trailing" rounds
    differently.
    """
    return np.rint(np.linspace(total - 1, 0, n + 1)).astype(np.int64)[-2::-1]


SPACINGS = {
    "official": space_official_timesteps,
    "quadratic": space_quadratic_timesteps,
    "sgm_uniform": space_sgm_uniform_timesteps,
}


class Schedule:
    """Variance-preserving noise schedule (Ho et al. 2020), betas linear in their square root.

    Computed in float64 and kept in float32 on the CPU, whatever the model's precision (the official code
    halves alphas_cumprod in fp16, which costs up to 5e-4). Timesteps are 0..timesteps-1, timestep 0 the
    cleanest.

    shift: moves the steps of samplers to other timesteps; at each of these the noise stays what the network
           was trained on.
    """

    def __init__(self, config: ScheduleConfig, shift: ResolutionShift = UNSHIFTED):
        self.timesteps = config.timesteps
        self.prediction = config.prediction
        self.shift = shift
        betas = (
            np.linspace(config.beta_start**0.5, config.beta_end**0.5, config.timesteps, dtype=np.float64) ** 2
        )
        alphas = 1 - betas
        cumprod = np.cumprod(alphas)
        cumprod_prev = np.append(1.0, cumprod[:-1])
        posterior_variance = betas * (1 - cumprod_prev) / (1 - cumprod)
        buffers = {
            "betas": betas,
            "alphas_cumprod": cumprod,
            "alphas_cumprod_prev": cumprod_prev,
            "sqrt_alphas_cumprod": np.sqrt(cumprod),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - cumprod),
            "log_one_minus_alphas_cumprod": np.log(1 - cumprod),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / cumprod),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / cumprod - 1),
            "posterior_variance": posterior_variance,
            "posterior_log_variance_clipped": np.log(np.maximum(posterior_variance, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(cumprod_prev) / (1 - cumprod),
            "posterior_mean_coef2": (1 - cumprod_prev) * np.sqrt(alphas) / (1 - cumprod),
        }
        self._buffers = {
            name: torch.from_numpy(values.astype(np.float32)) for name, values in buffers.items()
        }
        self.alphas_cumprod = self._buffers["alphas_cumprod"]

    def buffers(self) -> dict[str, Tensor]:
        """Return the 12 schedule buffers of official checkpoints by name, each float32 [timesteps]."""
        return dict(self._buffers)

    def steps(self, n: int, spacing: str = "official") -> Steps:
        """Make n steps from noise to data, their timesteps spaced by one of `SPACINGS`.

        With a shift they move to the nearest timesteps of the shifted noise; where these coincide there are
        fewer.

        Quirk kept: the result belongs to timestep 0, so its alphas_cumprod is 0.99915 and not 1.

        Raises ValueError unless 1 <= n <= timesteps, or for an unknown spacing.
        """
        if not 1 <= n <= self.timesteps:
            raise ValueError(f"The number of steps lies between 1 and {self.timesteps}, got {n}.")
        if spacing not in SPACINGS:
            raise ValueError(f'The spacing of steps is one of {", ".join(SPACINGS)}, got "{spacing}".')
        spaced = SPACINGS[spacing](n, self.timesteps).clip(max=self.timesteps - 1)
        timesteps = torch.from_numpy(np.unique(self.shifted_timesteps()[spaced])).flip(0)
        # Rounded to float32 and widened, as the official coefficients are: unrounded values give other
        # sigmas.
        alphas_cumprod = self.alphas_cumprod[torch.cat([timesteps, timesteps.new_zeros(1)])].double()
        return Steps(timesteps, alphas_cumprod)

    def sigmas(self, timesteps: Tensor) -> Tensor:
        """Compute sqrt((1 - alphas_cumprod) / alphas_cumprod), float32: the noise in data of variance 1."""
        alphas_cumprod = self.alphas_cumprod[timesteps].double()
        return ((1 - alphas_cumprod) / alphas_cumprod).sqrt().float()

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """Interpolate the sigmas linearly at timesteps that need not be whole, float64."""
        known = self.alphas_cumprod.double().numpy()
        return np.interp(timesteps, np.arange(self.timesteps), np.sqrt((1 - known) / known))

    def alphas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """Return alphas_cumprod at timesteps that need not be whole, float64, by `sigmas_at`."""
        whole = self.alphas_cumprod.double().numpy()[timesteps.astype(np.int64)]
        return np.where(timesteps == timesteps.round(), whole, 1 / (1 + self.sigmas_at(timesteps) ** 2))

    def alpha(self, t: float) -> float:
        """Return alphas_cumprod at one timestep, which need not be whole."""
        return float(self.alphas_at(np.array(t)))

    def shifted_timesteps(self) -> np.ndarray:
        """Find for every timestep the one, at least 1, whose noise is nearest to the shifted noise."""
        log_sigmas = self.sigmas(torch.arange(self.timesteps)).double().log().numpy()
        nearest = np.interp(self.shift.log_sigmas(log_sigmas), log_sigmas, np.arange(self.timesteps))
        return np.rint(nearest).astype(np.int64).clip(min=1)

    def progress(self, t: float) -> float:
        """Return how far timestep t is from noise (0) to data (1), evenly in timesteps as in ComfyUI."""
        return 1 - t / (self.timesteps - 1)

    def q_sample(self, x0: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
        """Diffuse x0 [B, …] to timesteps t (one, or [B]) with standard normal noise of x0's shape (Ho et al.
        2020, eq. 4)."""
        alpha, sigma = self._signal_and_noise(x0, t)
        return alpha * x0 + sigma * noise

    def noise_in(self, x: Tensor, x0: Tensor, t: Tensor | float) -> Tensor:
        """Find the noise that turned x0 [B, …] into x at timesteps t (one, or [B]): inverse of `q_sample`."""
        alpha, sigma = self._signal_and_noise(x0, t)
        return (x - alpha * x0) / sigma

    def target(self, x0: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
        """Compute what the network should predict for q_sample(x0, t, noise).

        That is the noise, or v (Salimans & Ho 2022, appendix D).
        """
        if self.prediction == "eps":
            return noise
        alpha, sigma = self._signal_and_noise(x0, t)
        return alpha * noise - sigma * x0

    def to_eps(self, x: Tensor, prediction: Tensor, t: Tensor | float) -> Tensor:
        """Convert the network's prediction for x [B, …] at timesteps t (one, or [B]) to the noise in x."""
        if self.prediction == "eps":
            return prediction
        alpha, sigma = self._signal_and_noise(x, t)
        return sigma * x + alpha * prediction

    def to_x0(self, x: Tensor, prediction: Tensor, t: Tensor | float) -> Tensor:
        """Convert the network's prediction for x [B, …] at timesteps t (one, or [B]) to the data in x."""
        alpha, sigma = self._signal_and_noise(x, t)
        return alpha * x - sigma * prediction if self.prediction == "v" else (x - sigma * prediction) / alpha

    def _signal_and_noise(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Compute sqrt(alphas_cumprod) and sqrt(1 - alphas_cumprod) at t, to multiply x, in its dtype."""
        t = torch.as_tensor(t).cpu()
        if t.is_floating_point():
            known = torch.from_numpy(self.alphas_at(t.double().numpy()))
            sides = (known.sqrt(), (1 - known).sqrt())
            alpha, sigma = (side.reshape(-1, *[1] * (x.ndim - 1)).to(x) for side in sides)
            return alpha, sigma
        names = "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"
        alpha, sigma = (self._buffers[name][t].reshape(-1, *[1] * (x.ndim - 1)).to(x) for name in names)
        return alpha, sigma
