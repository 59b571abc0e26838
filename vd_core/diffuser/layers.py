"""Layers that data and context layers share: time embedding, attention, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of timesteps [B] -> [B, width], float32, cosines first (DDPM, Ho et al. 2020)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half).to(t.device)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """The global layers: timestep [B] -> embedding [B, 4 * channels]."""

    def __init__(self, channels: int, ops=nn):
        super().__init__()
        self.channels = channels
        self.linear_1 = ops.Linear(channels, 4 * channels)
        self.linear_2 = ops.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        embedding = timestep_embedding(t, self.channels).to(dtype)
        return self.linear_2(F.silu(self.linear_1(embedding)))


class Attention(nn.Module):
    """Multi-head attention of x [B, n, width] to a context [B, m, context_width]; to itself without a context.

    emphasis: [B, m] ≥ 0, how often each token of the context counts: softmax(q·k / √d + log emphasis).
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, ops=nn):
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(context_width or width, width, bias=False)
        self.to_v = ops.Linear(context_width or width, width, bias=False)
        self.to_out = nn.Sequential(ops.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor | None = None, emphasis: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        bias = None if emphasis is None else emphasis.log()[:, None, None]
        q, k, v = (
            rearrange(project(source), "b n (h d) -> b h n d", h=self.heads)
            for project, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v, bias), "b h n d -> b n (h d)"))


class GatedGELU(nn.Module):
    """Linear to twice the width, value * GELU(gate)."""

    def __init__(self, inputs: int, outputs: int, ops=nn):
        super().__init__()
        self.proj = ops.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward of four times the width. `net.1` is the dropout of the known layouts, which never drops here."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.net = nn.Sequential(GatedGELU(width, 4 * width, ops), nn.Identity(), ops.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
