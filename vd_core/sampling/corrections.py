"""What keeps strong guidance in bounds: the steps in which it acts, and corrections of the data that it predicts.

Data is that of the diffuser, of unit variance: [B, C, …] for pictures, [B, C] or [B, C, 1, 1] for texts. The corrections compute in
float32 at least and return the dtype that they were given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

THRESHOLDS = ("none", "static", "dynamic")


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """One value per sample, [B], shaped to multiply `like` [B, …]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def rescaled(x0: Tensor, conditional: Tensor, origin: Tensor, phi: float) -> Tensor:
    """Guided data whose v-prediction spreads as the conditional one does (Lin et al. 2024, section 3.4, eq. 15 and 16).

    The paper rescales what the network predicts, v. That is a multiple of `origin` - x0, where `origin` is the data that v = 0 stands
    for, sqrt(alphas_cumprod) * x, and the multiple cancels out of the ratio of standard deviations.

    phi: 0..1, how much of the rescaled prediction is mixed in; at 1 each sample has the standard deviation of the conditional one.
    """
    if phi == 0:
        return x0
    guided, wanted = ((origin - data).float() for data in (x0, conditional))
    ratio = wanted.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return (origin - per_sample(phi * ratio + (1 - phi), guided) * guided).to(x0)


def static_threshold(x0: Tensor, bound: float) -> Tensor:
    """Data clipped to ± `bound` (Ho et al. 2020 clip to the data's range; "static thresholding" of Saharia et al. 2022, section 2.3)."""
    return x0.clamp(-bound, bound)


def extent(x0: Tensor, percentile: float) -> Tensor:
    """The absolute value below which a share `percentile` (0..1) of a sample's values lies, [B]."""
    return x0.float().abs().flatten(1).quantile(percentile, dim=1)


def dynamic_threshold(x0: Tensor, conditional: Tensor, percentile: float) -> Tensor:
    """Guided data within the extent of the conditional data (Saharia et al. 2022, section 2.3).

    s = max(c, percentile of |x0|); the result is x0 clipped to ± s, times c / s. In the paper c = 1, the range of pixels. Latents have
    no range, so here c is the percentile of |conditional|, of each sample. The result lies within ± c.
    """
    inner = extent(conditional, percentile)
    outer = torch.maximum(inner, extent(x0, percentile))
    inner, outer = per_sample(inner, x0), per_sample(outer, x0).clamp(min=torch.finfo(torch.float32).tiny)
    return (x0.float().clamp(-outer, outer) * (inner / outer)).to(x0)


@dataclass(frozen=True)
class GuidanceOptions:
    """When guidance acts and what is done against its excesses. The defaults change nothing, to the last bit.

    start, end: the interval of guidance, shares of the way from noise (0) to data (1) in timesteps, start < end. Outside of it all
                scales are 1: the conditional prediction alone is computed, and left as it is (Kynkäänniemi et al. 2024).
    rescale:    phi of `rescaled`, 0..1. The paper takes 0.7.
    threshold:  "none", "static" to `bound` > 0, or "dynamic" with `percentile` (0..1, above 0).

    Rescaling and the dynamic threshold compare with the conditional prediction, so they act where there is guidance: in the interval,
    at scales other than 1. The static threshold acts in every step. Rescaling comes first.

    Raises ValueError for values out of range.
    """

    start: float = 0.0
    end: float = 1.0
    rescale: float = 0.0
    threshold: str = "none"
    percentile: float = 0.995
    bound: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"Guidance acts from a start to a later end between 0 and 1, got {self.start} to {self.end}.")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"The rescaling of guidance lies between 0 and 1, got {self.rescale}.")
        if self.threshold not in THRESHOLDS:
            raise ValueError(f"The threshold of guidance is one of {', '.join(THRESHOLDS)}, got {self.threshold!r}.")
        if not 0 < self.percentile <= 1:
            raise ValueError(f"The percentile of the dynamic threshold lies between 0 and 1, 0 excluded, got {self.percentile}.")
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"The bound of the static threshold must be a number above 0, got {self.bound}.")

    def guides(self, progress: float) -> bool:
        """Whether guidance acts at that share of the way from noise to data."""
        return self.start <= progress <= self.end

    @property
    def compares(self) -> bool:
        """Whether `corrected` needs the conditional data."""
        return self.rescale > 0 or self.threshold == "dynamic"

    @property
    def corrects(self) -> bool:
        """Whether `corrected` may change anything."""
        return self.compares or self.threshold == "static"

    def corrected(self, x0: Tensor, conditional: Tensor | None, origin: Tensor) -> Tensor:
        """Predicted data after the corrections.

        conditional: the data that the conditional prediction alone stands for; None where nothing was guided.
        origin:      see `rescaled`.
        """
        if conditional is not None:
            x0 = rescaled(x0, conditional, origin, self.rescale)
            if self.threshold == "dynamic":
                x0 = dynamic_threshold(x0, conditional, self.percentile)
        return static_threshold(x0, self.bound) if self.threshold == "static" else x0


PLAIN = GuidanceOptions()  # classifier-free guidance as it is
