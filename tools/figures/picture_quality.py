"""Measures of drawn pictures: sharpness, distance from real ones as a whole, hues, variety; and how they are
written.

Pictures are [N, 3, H, W] in 0..1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vd_core.training.judge import Judge

# Things that are known by one colour.
PLAIN = (
    "tomato",
    "red heart",
    "orange",
    "pumpkin",
    "lemon",
    "banana",
    "cucumber",
    "four leaf clover",
    "eggplant",
    "water drop",
)


def measure_sharpness(images: Tensor) -> Tensor:
    """Measure how sharp pictures are, [N]: the mean square of the Laplacian of their grey values."""
    grey = images.mean(dim=1, keepdim=True)
    kernel = grey.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    return F.conv2d(grey, kernel[None, None]).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def compute_features(judge: Judge, images: Tensor) -> Tensor:
    """Return the judge's last features, averaged over the picture, float64 [N, 256]."""
    chunks = [
        judge.features((2 * chunk - 1).contiguous(memory_format=torch.channels_last))
        for chunk in images.split(256)
    ]
    return torch.cat(chunks).unflatten(1, (-1, 4)).mean(dim=2).double()


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Return the Fréchet distance of features [N, d] and [M, d], taken as normally distributed.

    |m_x - m_y|² + tr(C_x + C_y - 2 (C_x C_y)^½) (Heusel et al. 2017, eq. 6). It falls with N and M: compare
    only distances of as many pictures.
    """
    x, y = x.double(), y.double()
    covariances = torch.cov(x.T), torch.cov(y.T)
    # The trace of the root of C_x C_y: the roots of its eigenvalues, which a symmetric matrix has too, added
    # up.
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    means = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    return float(means + covariances[0].trace() + covariances[1].trace() - 2 * shared)


def measure_hue(images: Tensor) -> Tensor:
    """Return the mean hue of each picture in degrees, 0..360, [N].

    The mean is that of chroma as a vector, so that grey and white do not count.
    """
    red, green, blue = images.mean(dim=(2, 3)).unbind(dim=1)
    return torch.rad2deg(torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)) % 360


def measure_hue_error(images: Tensor, like: Tensor) -> Tensor:
    """Measure how far the hues of pictures are from those of others, degrees in 0..180, [N]."""
    return ((measure_hue(images) - measure_hue(like) + 180) % 360 - 180).abs()


def measure_seed_difference(images: Tensor) -> float:
    """Return the mean pixel difference of pairs of pictures [seeds, N, 3, H, W] of the same N prompts."""
    pairs = torch.combinations(torch.arange(len(images)))
    return float((images[pairs[:, 0]] - images[pairs[:, 1]]).abs().mean())


def summarize(values: list[float]) -> str:
    """Write the mean and the standard deviation of one value per seed."""
    numbers = torch.tensor(values)
    return f"{numbers.mean():.3f} ± {numbers.std(correction=min(1, len(values) - 1)):.3f}"
