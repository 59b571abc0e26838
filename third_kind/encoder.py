"""The context encoder of melodies: what is played, and when. The context layers' own projections are all that learns to read it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vd_core.context import Context

from .melodies import SLOTS, TOKENS


def encode_melody(melodies: Tensor) -> Context:
    """Melodies [B, SLOTS] -> a context [B, SLOTS, TOKENS + SLOTS] of tokens of norm 1; unconditional are zeros."""
    place = torch.eye(SLOTS).expand(len(melodies), -1, -1)
    return Context("melody", F.normalize(torch.cat([F.one_hot(melodies, TOKENS).float(), place], dim=2), dim=2))
