"""Keep strong guidance in bounds: the steps in which it acts, and corrections of the data that it predicts.

Data is that of the diffuser, of unit variance: [B, C, …] for pictures, [B, C] or [B, C, 1, 1] for texts. The
corrections compute in float32 at least and return the dtype that they were given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import check_choice, check_number

THRESHOLDS = ("none", "static", "dynamic")


def shape_per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Bring one value per sample, [B], into the shape and type of `like` [B, …], to multiply it."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))


def rescale_cfg(x0: Tensor, conditional: Tensor, origin: Tensor, phi: float) -> Tensor:
    """Rescale guided data so that its v-prediction has the standard deviation of the conditional one.

    This is CFG rescale (Lin et al. 2024, section 3.4, eq. 15 and 16). The paper rescales what the network
    predicts, v. That is a multiple of `origin` - x0, where `origin` is the data that v = 0 stands for,
    sqrt(alphas_cumprod) * x, and the multiple cancels out of the ratio of standard deviations.

    phi: 0..1, how much of the rescaled prediction is mixed in; at 1 each sample has the standard deviation of
         the conditional one.
    """
    if phi == 0:
        return x0
    guided, wanted = ((origin - data).float() for data in (x0, conditional))
    ratio = wanted.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return (origin - shape_per_sample(phi * ratio + (1 - phi), guided) * guided).to(x0)


def threshold_static(x0: Tensor, bound: float) -> Tensor:
    """Clip data to ± `bound`: static thresholding (Saharia et al. 2022, section 2.3)."""
    return x0.clamp(-bound, bound)


def measure_extent(x0: Tensor, percentile: float) -> Tensor:
    """Measure below which absolute value a share `percentile` (0..1) of a sample's values lies, [B]."""
    return x0.float().abs().flatten(1).quantile(percentile, dim=1)


def threshold_dynamic(x0: Tensor, conditional: Tensor, percentile: float) -> Tensor:
    """Squeeze guided data into the extent of the conditional data: dynamic thresholding.

    Saharia et al. 2022, section 2.3: s = max(c, percentile of |x0|); the result is x0 clipped to ± s and
    multiplied by c / s. In the paper c = 1, the range of pixels. Latents have no range, so here c is the
    percentile of |conditional|, of each sample. The result lies within ± c.
    """
    guided = x0.float()
    inner, own = (
        shape_per_sample(measure_extent(data, percentile), guided) for data in (conditional, guided)
    )
    outer = torch.maximum(inner, own).clamp(min=torch.finfo(torch.float32).tiny)
    return (guided.clamp(-outer, outer) * (inner / outer)).to(x0)


@dataclass(frozen=True)
class GuidanceOptions:
    """When classifier-free guidance acts, and how its excesses are corrected; by default not at all.

    start, end: the guidance interval, shares of the way from noise (0) to data (1) in timesteps, start < end.
                Outside of it all scales are 1: the conditional prediction alone is computed, uncorrected
                (Kynkäänniemi et al. 2024).
    rescale:    phi of `rescale_cfg`, 0..1. The paper takes 0.7.
    threshold:  "none", "static" to `bound` > 0, or "dynamic" with `percentile` (0..1, above 0).

    CFG rescale and the dynamic threshold compare with the conditional prediction, so they act where there is
    guidance: in the interval, at scales other than 1. The static threshold acts in every step. CFG rescale
    comes first.

    Raises ValueError for values out of range.
    """

    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.0
    threshold: str = "none"
    percentile: float = 0.995
    bound: float = 4.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "rescale", "percentile"):
            check_number(f"{name} of guidance", getattr(self, name), 0, 1)
        check_number("bound of guidance", self.bound, 0)
        check_choice("threshold of guidance", self.threshold, THRESHOLDS)
        if self.start >= self.end:
            raise ValueError(f"Guidance must end after it starts, got {self.start} to {self.end}.")
        if self.percentile == 0 or self.bound == 0:
            raise ValueError(
                "percentile and bound of guidance must be above 0: at 0 every value would be cut."
            )

    def guides(self, progress: float) -> bool:
        """Tell whether guidance acts at that share of the way from noise to data."""
        return self.start <= progress <= self.end

    @property
    def needs_conditional(self) -> bool:
        """Whether `correct` needs the conditional data."""
        return self.rescale > 0 or self.threshold == "dynamic"

    @property
    def corrects(self) -> bool:
        """Whether `correct` may change anything."""
        return self.needs_conditional or self.threshold == "static"

    def correct(self, x0: Tensor, conditional: Tensor | None, origin: Tensor) -> Tensor:
        """Apply the corrections to predicted data.

        conditional: the data that the conditional prediction alone stands for; None where nothing was guided.
        origin:      see `rescale_cfg`.
        """
        if conditional is not None:
            x0 = rescale_cfg(x0, conditional, origin, self.rescale)
            if self.threshold == "dynamic":
                x0 = threshold_dynamic(x0, conditional, self.percentile)
        return threshold_static(x0, self.bound) if self.threshold == "static" else x0


PLAIN = GuidanceOptions()  # plain classifier-free guidance
