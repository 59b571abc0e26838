"""The autoencoder of melodies: analog bits (Chen et al. 2022), so there is nothing to train."""

from __future__ import annotations

import torch
from torch import Tensor

from .melodies import SLOTS

BITS = 4  # of a token; SLOTS * BITS are the channels in kind.json


def encode(melodies: Tensor) -> Tensor:
    """Melodies [B, SLOTS] -> latents [B, SLOTS * BITS], each bit as -1 or 1: of unit variance as they are."""
    return (2 * (melodies[..., None] >> torch.arange(BITS) & 1) - 1).flatten(1).float()


def decode(latents: Tensor) -> Tensor:
    """Latents [B, SLOTS * BITS] -> melodies [B, SLOTS]: each bit is the sign."""
    return ((latents.view(-1, SLOTS, BITS) > 0).long() << torch.arange(BITS)).sum(dim=2)
