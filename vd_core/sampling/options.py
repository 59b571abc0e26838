"""Everything that users choose about sampling, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..choices import SPACINGS
from .checks import check_choice, check_count, check_number, check_type
from .corrections import PLAIN, GuidanceOptions
from .energy import Energy
from .low_pass import LowPassGuidance
from .noise import NOISES
from .samplers import SAMPLERS
from .shift import UNSHIFTED, ResolutionShift

START_LEVELS = ("official", "same")


@dataclass(frozen=True)
class Sampling:
    """How to sample. The defaults are those of the official app.

    sampler:     one of `SAMPLERS`.
    steps:       network evaluations per sample, at least 1; the schedule has at most 1000.
    cfg:         guidance scale, one or one per context; at 1 the unconditional tokens are not evaluated.
    eta:         0..1, how much noise DDIM adds on the way: 0 none, 1 as much as DDPM.
    temperature: at least 0, scales the noise that DDIM and DDPM add.
    fidelity:    0..1, how much of the given latent is kept: at 0 only its shape counts, at 1 it comes back.
    strength:    0..1, in place of fidelity, as in diffusers: the last int(steps * strength) steps run from
                 the given latent, at least one unless it is 0; None = from noise, or as fidelity says. At 1
                 all steps run, from the latent with noise.
    start_level: with how much noise on the latent they begin: "same" as the first of them assumes, as in
                 diffusers, or "official", one step more; None = "same" with strength, "official" with
                 fidelity.
    spacing:     which timesteps are visited, one of `SPACINGS`; None = the official ones, or from noise what
                 suits the sampler (`spacing.FROM_NOISE`).
    timesteps:   exactly these, descending, in place of steps and spacing; fractions too.
    noise:       how a seed becomes noise, one of `NOISES`.
    guidance:    when guidance acts, and corrections of high scales.
    energies:    what samples are steered to make small, measured on unscaled latents.
    shift:       for pictures of another size than the model was trained on.
    low_pass:    the picture whose large shapes the samples keep; None for none.

    Raises ValueError that names the field, for values of another type, out of range, or not finite.
    """

    sampler: str = "ddim"
    steps: int = 50
    cfg: float | Sequence[float] = 7.5
    eta: float = 0.0
    temperature: float = 1.0
    fidelity: float = 0.0
    strength: float | None = None
    start_level: str | None = None
    spacing: str | None = None
    timesteps: Sequence[float] | None = None
    noise: str = "per sample"
    guidance: GuidanceOptions = PLAIN
    energies: Sequence[Energy] = ()
    shift: ResolutionShift = UNSHIFTED
    low_pass: LowPassGuidance | None = None

    def __post_init__(self) -> None:
        check_choice("sampler", self.sampler, SAMPLERS)
        check_count("steps", self.steps)
        if isinstance(self.cfg, Sequence) and not isinstance(self.cfg, str):
            # the value is frozen, so a list must not stay one
            object.__setattr__(self, "cfg", tuple(self.cfg))
        for scale in self.cfg if isinstance(self.cfg, tuple) else (self.cfg,):
            check_number("cfg", scale)
        check_number("eta", self.eta, 0, 1)
        check_number("temperature", self.temperature, 0)
        check_number("fidelity", self.fidelity, 0, 1)
        if self.strength is not None:
            check_number("strength", self.strength, 0, 1)
            if self.fidelity:
                raise ValueError("strength and fidelity say the same in two ways: give one of them.")
        if self.start_level is not None:
            check_choice("start_level", self.start_level, START_LEVELS)
        if self.spacing is not None:
            check_choice("spacing", self.spacing, SPACINGS)
        if self.timesteps is not None:
            self._take_timesteps()
        if self.strength and int(self.steps * self.strength) < 1:
            raise ValueError(
                f"A strength of {self.strength:g} leaves none of {self.steps} steps to run: take more steps "
                "or a larger strength, or 0 to get the latent back."
            )
        check_choice("noise", self.noise, NOISES)
        check_type("guidance", self.guidance, GuidanceOptions)
        check_type("energies", self.energies, Sequence)
        object.__setattr__(self, "energies", tuple(self.energies))
        for energy in self.energies:
            check_type("energies", energy, Energy)
        check_type("shift", self.shift, ResolutionShift)
        if self.low_pass is not None:
            check_type("low_pass", self.low_pass, LowPassGuidance)

    def _take_timesteps(self) -> None:
        """Keep the explicit timesteps as numbers; they decide how many steps there are."""
        given: Any = self.timesteps
        visited = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
        check_type("timesteps", visited, Sequence)
        for t in visited:
            check_number("timesteps", t, 0)
        if (
            self.spacing is not None
            or not visited
            or any(b >= a for a, b in zip(visited, visited[1:], strict=False))
        ):
            raise ValueError(
                "timesteps must be at least one number, strictly descending, and without a spacing."
            )
        object.__setattr__(self, "timesteps", tuple(float(t) for t in visited))
        object.__setattr__(self, "steps", len(visited))

    @property
    def from_noise(self) -> bool:
        """Whether sampling begins at pure noise, so that only the shape of the given latent counts."""
        return self.fidelity == 0 and self.strength is None

    @property
    def starts_same(self) -> bool:
        """Whether a latent gets the noise that the first step assumes, and not that of one step more."""
        return self.start_level == "same" if self.start_level is not None else self.strength is not None

    @property
    def draws_noise(self) -> bool:
        """Whether the sampler uses noise beyond that of the start."""
        return self.temperature > 0 and (
            self.sampler == "ddpm"
            or self.sampler == "ddim"
            and self.eta > 0
            or self.sampler in ("ddgan", "lcm")
            and self.steps > 1
        )


OFFICIAL = Sampling()
