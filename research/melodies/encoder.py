"""The context encoder of melodies: which note is played when, one out of 256. The context layers' own
projections learn to read it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vd_core.context import Context

from .melodies import SLOTS, TOKENS


def encode_melody(melodies: Tensor) -> Context:
    """Melodies [B, SLOTS] -> a context [B, SLOTS, SLOTS * TOKENS] of tokens of norm 1; unconditional are
    zeros."""
    return Context("melody", F.one_hot(torch.arange(SLOTS) * TOKENS + melodies, SLOTS * TOKENS).float())
