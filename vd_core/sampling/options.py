"""Everything that users choose about sampling, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .checks import check_choice, check_count, check_number, check_type
from .corrections import PLAIN, GuidanceOptions
from .energy import Energy
from .low_pass import LowPassGuidance
from .noise import NOISES
from .samplers import SAMPLERS
from .shift import UNSHIFTED, ResolutionShift


@dataclass(frozen=True)
class Sampling:
    """How to sample. The defaults are those of the official app.

    sampler:     one of `SAMPLERS`.
    steps:       network evaluations per sample, at least 1; the schedule has at most 1000.
    cfg:         guidance scale, one or one per context; at 1 the unconditional tokens are not evaluated.
    eta:         0..1, how much noise DDIM adds on the way: 0 none, 1 as much as DDPM.
    temperature: at least 0, scales the noise that DDIM and DDPM add.
    fidelity:    0..1, how much of the given latent is kept: at 0 only its shape counts, at 1 it comes back.
    noise:       one of `NOISES`: how a seed becomes noise.
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
    noise: str = "per sample"
    guidance: GuidanceOptions = PLAIN
    energies: Sequence[Energy] = ()
    shift: ResolutionShift = UNSHIFTED
    low_pass: LowPassGuidance | None = None

    def __post_init__(self) -> None:
        check_choice("sampler", self.sampler, SAMPLERS)
        check_count("steps", self.steps)
        if isinstance(self.cfg, Sequence) and not isinstance(self.cfg, str):
            object.__setattr__(self, "cfg", tuple(self.cfg))  # the value is frozen, so a list must not stay one
        for scale in self.cfg if isinstance(self.cfg, tuple) else (self.cfg,):
            check_number("cfg", scale)
        check_number("eta", self.eta, 0, 1)
        check_number("temperature", self.temperature, 0)
        check_number("fidelity", self.fidelity, 0, 1)
        check_choice("noise", self.noise, NOISES)
        check_type("guidance", self.guidance, GuidanceOptions)
        check_type("energies", self.energies, Sequence)
        object.__setattr__(self, "energies", tuple(self.energies))
        for energy in self.energies:
            check_type("energies", energy, Energy)
        check_type("shift", self.shift, ResolutionShift)
        if self.low_pass is not None:
            check_type("low_pass", self.low_pass, LowPassGuidance)

    @property
    def adds_noise(self) -> bool:
        """Whether the sampler adds noise after the start."""
        return self.temperature > 0 and (self.sampler == "ddpm" or (self.sampler == "ddim" and self.eta > 0))


OFFICIAL = Sampling()
