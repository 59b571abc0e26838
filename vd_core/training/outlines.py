"""What pictures say about names and styles in closed form: outlines, and a space of names in which they are
alike across styles.

A small encoder learns little from a thousand pictures and their captions alone, for styles differ more than
names do. Outlines hardly differ between styles, and Fisher's discriminant analysis finds in seconds what
tells the names apart: the encoder is taught both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 8  # orientations
# Of gradient magnitudes: flat areas, soft shading, texture, edges.
MAGNITUDES = (-1.0, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 10.0)


def compute_gradients(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute central differences of the strongest channel of pictures [B, 3, H, W]: magnitude, horizontal
    and vertical part, [B, 1, H, W]."""
    x = F.pad(images[..., :, 2:] - images[..., :, :-2], (1, 1, 0, 0))
    y = F.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1))
    square = x.square() + y.square()
    strongest = square.argmax(dim=1, keepdim=True)
    x, y, square = (values.gather(1, strongest) for values in (x, y, square))
    return (square + 1e-8).sqrt(), x, y


def compute_outlines(images: Tensor, grid: int = 8) -> Tensor:
    """Compute histograms of oriented gradients (Dalal & Triggs 2005): pictures [B, 3, S, S] in 0..1 -> [B,
    BINS, grid, grid] in 0..0.71.

    Orientations, not directions: dark on white and white on dark are alike. Each cell is divided by what lies
    around it, so faint outlines count as much as strong ones.
    """
    small = F.adaptive_avg_pool2d(images, 4 * grid)
    magnitude, x, y = compute_gradients(small)
    double_cos, double_sin = (x.square() - y.square()) / magnitude, 2 * x * y / magnitude
    angles = 2 * math.pi * torch.arange(BINS).view(1, -1, 1, 1) / BINS
    energy = ((double_cos * angles.cos() + double_sin * angles.sin()) / magnitude).clamp(
        min=0
    ) ** 4 * magnitude
    cells = F.avg_pool2d(energy, 8, stride=4, padding=2)
    around = F.avg_pool2d(cells.square().sum(dim=1, keepdim=True), 3, stride=1, padding=1).sqrt()
    return (cells / (around + 0.02)).clamp(max=0.5).sqrt()


def compute_surfaces(images: Tensor, grid: int = 8) -> Tensor:
    """Measure how each cell is painted: the share of each range of gradient magnitude (roots), and the
    colours of its four quarters.

    Pictures [B, 3, S, S] in 0..1 -> [B, 10 + 12, grid, grid] in 0..1.
    """
    magnitude = compute_gradients(images)[0]
    ranges = torch.cat(
        [
            ((magnitude > low) & (magnitude <= high)).float()
            for low, high in zip(MAGNITUDES, MAGNITUDES[1:], strict=False)
        ],
        dim=1,
    )
    quarters = F.pixel_unshuffle(F.adaptive_avg_pool2d(images, 2 * grid), 2)
    return torch.cat([F.adaptive_avg_pool2d(ranges, grid).sqrt(), quarters], dim=1)


@dataclass(frozen=True)
class NameSpace:
    """Fisher's linear discriminants of the names (Fisher 1936; Rao 1948), from outlines alone.

    mean: [features]. directions: [features, width], within-name variation whitened, the most telling first.
    """

    mean: Tensor
    directions: Tensor

    @classmethod
    def fit(cls, images: Tensor, names: Tensor, width: int = 64, shrinkage: float = 1.0) -> NameSpace:
        """Fit the space to pictures [N, 3, S, S] in 0..1, as they are and mirrored, and the numbers of their
        names [N].

        shrinkage: how much of the mean variance is added to the within-name covariance, for there are fewer
                   pictures than features.
        """
        features = torch.cat(
            [
                compute_outlines(chunk).flatten(1)
                for side in (images, images.flip(-1))
                for chunk in side.split(256)
            ]
        )
        names = names.unique(return_inverse=True)[1].repeat(2)
        count = torch.bincount(names)
        means = torch.zeros(len(count), features.shape[1]).index_add_(0, names, features) / count[:, None]
        rest = features - means[names]
        within = rest.T @ rest / len(rest)
        within += shrinkage * within.diagonal().mean() * torch.eye(len(within))
        whiten = torch.linalg.inv(torch.linalg.cholesky(within)).T
        mean = features.mean(dim=0)
        directions = torch.linalg.svd((means - mean) @ whiten, full_matrices=False)[2][:width]
        directions = F.pad(directions, (0, 0, 0, width - len(directions)))  # fewer names than that span less
        return cls(mean, whiten @ directions.T)

    def embed(self, outlines: Tensor) -> Tensor:
        """Embed outlines [B, BINS, 8, 8] as [B, width], of norm 1."""
        return F.normalize((outlines.flatten(1) - self.mean) @ self.directions, dim=1)
