"""Positions of SeeCoder-PA, which tell its queries where in the image a key lies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def position_features(height: int, width: int, frequencies: int, device: torch.device) -> Tensor:
    """Compute sines and cosines of every cell's distance from the middle, rows before columns.

    Returns [height * width, 4 * frequencies], float32.
    """
    side = min(height, width)

    def waves(cells: int) -> Tensor:
        offsets = (torch.arange(cells, device=device) + 0.5 - cells / 2) / side * 2 * math.pi
        angles = offsets[:, None] * (side / 2) ** torch.linspace(0, 1, frequencies, device=device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    rows = waves(height)[:, None].expand(height, width, -1)
    columns = waves(width)[None].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class PositionMLP(nn.Module):
    """A map's cells -> [height * width, width of the tokens]."""

    def __init__(self, frequencies: int, width: int, ops=nn):
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(
            ops.Linear(4 * frequencies, width),
            nn.SiLU(),
            ops.Linear(width, width),
            nn.SiLU(),
            ops.Linear(width, width),
        )
        self.eval()

    def forward(self, height: int, width: int, like: Tensor) -> Tensor:
        """like: whose dtype and device are used. The features are computed in float32 and then cast."""
        return self.mlp(position_features(height, width, self.frequencies, like.device).to(like))
