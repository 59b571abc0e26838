"""Low-pass guidance (ILVR): samples keep the large shapes and colours of a source, details are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor
from torch.nn.functional import avg_pool2d

from .checks import check_count, check_number
from .samplers import Denoise, predict_x0
from .schedule import Schedule


def average_blocks(x: Tensor, factor: int) -> Tensor:
    """Replace each block of factor x factor cells of latents [B, C, H, W] by its mean.

    This is the low-pass filter of ILVR, a projection: twice gives the same as once.
    """
    return avg_pool2d(x, factor).repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


@dataclass(frozen=True, eq=False)
class LowPassGuidance:
    """Which large shapes samples keep: phi(sample) = phi(source), with phi = `average_blocks`.

    After ILVR (Choi et al. 2021, algorithm 1). ILVR sets phi(x) to phi(q(source, t)) after each step. Here
    the data that each step predicts becomes x0 + strength phi(source - x0): for DDIM at eta 0 that is the
    same with one noise for all steps, and samplers of higher order can rely on it as well.

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
        check_count("factor of the low-pass guidance", self.factor)
        for name in ("strength", "end"):
            check_number(f"{name} of the low-pass guidance", getattr(self, name), 0, 1)
        sides = list(self.source.shape[2:])
        if len(sides) != 2 or any(side % self.factor for side in sides):
            raise ValueError(
                "The factor of the low-pass guidance must divide the height and width of its source, got "
                f"{self.factor} for {list(self.source.shape)}."
            )

    def pull(self, x0: Tensor, source: Tensor) -> Tensor:
        """Compute what is added to predicted data x0 [B, C, H, W]; source: in x0's scale. Raises ValueError
        where they do not fit."""
        if source.shape[1:] != x0.shape[1:] or len(source) not in (1, len(x0)):
            raise ValueError(
                f"The source of the low-pass guidance, {list(source.shape)}, does not fit samples "
                f"{list(x0.shape)}: make it as large as they are."
            )
        return self.strength * average_blocks(source.to(x0) - x0, self.factor)


def guide_low_pass(
    denoise: Denoise, schedule: Schedule, guidance: LowPassGuidance | None, latent_scale: float = 1.0
) -> Denoise:
    """Wrap `denoise` in low-pass guidance; without any, or at strength 0, return it unchanged.

    latent_scale: takes unscaled latents to the diffuser's space.
    """
    if guidance is None or guidance.strength == 0:
        return denoise
    source = guidance.source * latent_scale

    def denoise_guided(x: Tensor, t: float) -> Tensor:
        eps = denoise(x, t)
        if schedule.progress(t) > guidance.end:
            return eps
        alpha = schedule.alpha(t)
        return eps - sqrt(alpha / (1 - alpha)) * guidance.pull(predict_x0(x, eps, alpha), source)

    return denoise_guided
