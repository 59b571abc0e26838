"""Energies of pictures: differentiable, and 0 for a picture that is as wanted."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

# The axes, the diagonals of the faces and those of the cube of colours, each up to its sign: all directions
# count alike.
DIRECTIONS = [direction for direction in product((-1, 0, 1), repeat=3) if direction > (0, 0, 0)]


def latent_distance(latents: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference, [B], of latents [B, C, h, w] from wanted ones [1 or B, C, h, w].

    Weighted by the mean of the mask [1 or B, 1, H, W] (0..1) over each cell. Raises ValueError for other
    shapes, and for a mask of zeros.
    """
    if wanted.shape[1:] != latents.shape[1:] or len(wanted) not in (1, len(latents)):
        raise ValueError(
            f"Samples with latents {list(latents.shape)} cannot be steered to pictures with latents "
            f"{list(wanted.shape)}: use one picture, or one for each sample, in the size of the samples."
        )
    height, width = latents.shape[2:]
    weights = (
        latents.new_ones(1, 1, height, width)
        if mask is None
        else F.adaptive_avg_pool2d(mask.to(latents), (height, width))
    )
    if len(weights) not in (1, len(latents)):
        raise ValueError(
            f"There are {len(weights)} masks for {len(latents)} samples: use one, or one for each."
        )
    total = weights.sum(dim=(1, 2, 3))
    if (total == 0).any():
        raise ValueError("The mask is empty: paint where samples are to be like the picture.")
    return (weights * (latents - wanted.to(latents)).square()).sum(dim=(1, 2, 3)) / (total * latents.shape[1])


def color_distance(images: Tensor, palette: Tensor) -> Tensor:
    """Compute how far, [B], the colours of pictures [B, 3, H, W] are from those of a palette, in any place.

    It is the squared sliced Wasserstein distance of the two distributions of colours (Bonneel et al. 2015)
    along the 13 directions of a cube: 0 for the same colours in other places, |c|² / 3 for colours that are
    all off by c.

    palette: [1 or B, 3, h, w]. Raises ValueError for another number of them.
    """
    if len(palette) not in (1, len(images)):
        raise ValueError(
            f"There are {len(palette)} pictures with colours for {len(images)} samples: use one, or one for "
            "each."
        )
    directions = F.normalize(torch.tensor(DIRECTIONS).to(images), dim=1)
    here, there = (
        (directions @ pictures.flatten(2)).sort(dim=2).values for pictures in (images, palette.to(images))
    )
    if there.shape[2] != here.shape[2]:
        there = F.interpolate(there, size=here.shape[2], mode="linear", align_corners=False)
    return (here - there).square().mean(dim=(1, 2))


def embedding_distance(embeddings: Tensor, wanted: Tensor) -> Tensor:
    """Compute 1 - cosine, in 0..2, [B], of embeddings [B, d] and wanted ones [1 or B, d].

    Raises ValueError for other shapes.
    """
    if wanted.shape[1:] != embeddings.shape[1:] or len(wanted) not in (1, len(embeddings)):
        raise ValueError(
            f"Samples with embeddings {list(embeddings.shape)} cannot be steered to embeddings "
            f"{list(wanted.shape)}: use one, or one for each sample, and a clip and a clip_vision of the "
            "same model."
        )
    return 1 - F.cosine_similarity(embeddings, wanted.to(embeddings), dim=-1)
