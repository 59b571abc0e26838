"""A low-pass tie: samples keep the large shapes and colours of a source, and only what is finer is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor
from torch.nn.functional import avg_pool2d

from .samplers import Denoise, predict_x0
from .schedule import Schedule


def low_pass(x: Tensor, factor: int) -> Tensor:
    """Down and up by `factor`: latents [B, C, H, W] with the mean of each factor x factor cells in all of them. Twice is once."""
    return avg_pool2d(x, factor).repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


@dataclass(frozen=True, eq=False)
class LowPassTie:
    """What samples are tied to: with phi = `low_pass`, phi(sample) = phi(source) (ILVR, Choi et al. 2021, algorithm 1).

    ILVR sets phi(x) to phi(q(source, t)) after each step. Here the data that each step predicts becomes x0 + strength phi(source - x0):
    for DDIM at eta 0 that is the same with one noise for all steps, and samplers of higher order can rely on it as well.

    source:   unscaled latents [1 or B, C, H, W] of the size that is sampled.
    factor:   how many cells make one that is kept, at least 1; it divides H and W. 1 keeps everything.
    strength: 0..1; 0 changes nothing, to the last bit.
    end:      until when it acts, a share of the way from noise (0) to data (1).

    Raises ValueError for values out of range.
    """

    source: Tensor
    factor: int = 2
    strength: float = 1.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.strength <= 1 and 0 <= self.end <= 1):
            raise ValueError(f"The strength and the end of a tie lie between 0 and 1, got {self.strength} and {self.end}.")
        if self.factor < 1 or any(side % self.factor for side in self.source.shape[2:]):
            raise ValueError(f"The factor of a tie must divide the sides of the latent, {list(self.source.shape[2:])}, got {self.factor}.")

    def pull(self, x0: Tensor, source: Tensor) -> Tensor:
        """What the tie adds to predicted data x0 [B, C, H, W]; source: in x0's scale. Raises ValueError where they do not fit."""
        if source.shape[1:] != x0.shape[1:] or len(source) not in (1, len(x0)):
            raise ValueError(f"Latents {list(x0.shape)} cannot be tied to {list(source.shape)}: make the source as large as the sample.")
        return self.strength * low_pass(source.to(x0) - x0, self.factor)


def tied(denoise: Denoise, schedule: Schedule, tie: LowPassTie | None, scale: float) -> Denoise:
    """`denoise` under a tie. scale: what takes unscaled latents to the diffuser's space."""
    if tie is None or tie.strength == 0:
        return denoise
    source = tie.source * scale

    def tied_denoise(x: Tensor, t: int) -> Tensor:
        eps = denoise(x, t)
        if schedule.progress(t) > tie.end:
            return eps
        alpha = schedule.alphas_cumprod[t].item()
        return eps - sqrt(alpha / (1 - alpha)) * tie.pull(predict_x0(x, eps, alpha), source)

    return tied_denoise
