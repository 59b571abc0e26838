"""Noise levels for latents of other sizes than those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np


@dataclass(frozen=True)
class ResolutionShift:
    """How much more noise a larger latent needs to hide a picture equally (Hoogeboom et al. 2023, eq. 4, 5).

    Averaged over f x f cells, noise has 1 / f of its standard deviation, while what pictures show hardly
    changes. So at f times the side the same log-SNR is reached at sigma' = f sigma, logSNR' = logSNR - 2 log
    f, where sigma² = (1 - alphas_cumprod) / alphas_cumprod.

    noisy, clean: f where there is only noise and where there is only data; in between log f goes evenly in
                  timesteps. Different ones are the paper's interpolated schedule, t shift_noisy + (1 - t)
                  shift_clean of log-SNRs. 1 and 1 change nothing.
    """

    noisy: float = 1.0
    clean: float = 1.0

    @classmethod
    def of_size(
        cls, height: int, width: int, side: int, noisy: float = 1.0, clean: float = 1.0
    ) -> ResolutionShift:
        """Return the shift of latents height x width for a model trained on side x side.

        noisy, clean: exponents of f, how much of it.

        Raises ValueError for sides and shares that are not positive.
        """
        if min(height, width, side) < 1 or min(noisy, clean) < 0:
            raise ValueError(
                f"A shift needs sides above 0 and shares of at least 0, got {height}, {width}, {side}, "
                f"{noisy}, {clean}."
            )
        factor = sqrt(height * width) / side
        return cls(factor**noisy, factor**clean)

    def log_sigmas(self, trained: np.ndarray) -> np.ndarray:
        """Shift a model's levels, log sigma at all timesteps, ascending; as many result, in the same range.

        Levels beyond that range, which the model does not know, are left out; the others are spread over all
        timesteps. Raises ValueError for shifts so different that the levels are no longer ascending.
        """
        timesteps = np.arange(len(trained), dtype=np.float64)

        def shifted(t: np.ndarray) -> np.ndarray:
            share = t / (len(trained) - 1)
            return np.interp(t, timesteps, trained) + share * log(self.noisy) + (1 - share) * log(self.clean)

        levels = shifted(timesteps)
        if (np.diff(levels) <= 0).any():
            raise ValueError(
                f"The shift at the clean end ({self.clean:g}) is too large for that at the noisy end "
                f"({self.noisy:g})."
            )
        first, last = np.interp(trained[[0, -1]], levels, timesteps)
        return shifted(np.linspace(first, last, len(trained))).clip(trained[0], trained[-1])


UNSHIFTED = ResolutionShift()
