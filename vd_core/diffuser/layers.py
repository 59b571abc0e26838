"""Layers that data and context layers share: time embedding, attention, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .kv_cache import KeysValues


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Embed timesteps [B] by sines and cosines, [B, width], float32, cosines first (DDPM, Ho et al. 2020)."""
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


def repeat(x: Tensor, evaluations: int) -> Tensor:
    """Repeat [B, …] for each evaluation of a batch, one after the other: [evaluations * B, …]."""
    return x if evaluations == 1 else x.repeat(evaluations, *[1] * (x.ndim - 1))


SCORES = 1 << 20  # of attention, held at once on the CPU: few enough to stay in its cache


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q kᵀ / √d + bias) v of q [B, heads, n, d], k and v [B, heads, m, d], bias [B, 1, 1, m]
    (Vaswani et al. 2017, eq. 1).

    torch's own product, but for bfloat16 on CPUs, which it computes in float32: there plain products, block
    by block, are 2 to 3 times as fast where the processor multiplies bfloat16 (AVX512-BF16, 256 to 4096
    queries). Their scores are of bfloat16.
    """
    differentiated = any(part.requires_grad for part in (q, k, v))
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or differentiated:
        return F.scaled_dot_product_attention(q, k, v, bias)
    rows, bias = q.shape[:2], None if bias is None else bias.expand(-1, q.shape[1], -1, -1).flatten(0, 1)
    q, k, v = (part.flatten(0, 1) for part in (q, k * k.shape[-1] ** -0.5, v))
    heads, queries = (max(1, SCORES // count) for count in (q.shape[1] * k.shape[1], k.shape[1]))
    mixed = torch.empty_like(q)
    for head in (slice(start, start + heads) for start in range(0, len(q), heads)):
        for query in (slice(start, start + queries) for start in range(0, q.shape[1], queries)):
            scores = q[head, query] @ k[head].transpose(1, 2)
            scores = scores if bias is None else scores + bias[head]
            mixed[head, query] = scores.softmax(dim=-1) @ v[head]
    return mixed.unflatten(0, rows)


class Attention(nn.Module):
    """Multi-head attention of x [B, n, width] to a context [rows, m, context_width], or to its keys and
    values; to itself without a context.

    rows:          B, or fewer: each is then read by as many consecutive samples.
    token_weights: [rows, m] ≥ 0, how often each token of the context counts: softmax(q·k / √d + log
                   token_weights).
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, ops=nn):
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(context_width or width, width, bias=False)
        self.to_v = ops.Linear(context_width or width, width, bias=False)
        self.to_out = nn.Sequential(ops.Linear(width, width))

    def keys_values(self, context: Tensor) -> KeysValues:
        """Compute the keys and values of tokens [rows, m, context_width]."""
        return self.split_heads(self.to_k(context)), self.split_heads(self.to_v(context))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Split the width by heads: [B, n, width] -> [B, heads, n, width / heads]."""
        return rearrange(tokens, "b n (h d) -> b h n d", h=self.heads)

    def forward(
        self, x: Tensor, context: Tensor | KeysValues | None = None, token_weights: Tensor | None = None
    ) -> Tensor:
        keys, values = (
            context if isinstance(context, tuple) else self.keys_values(x if context is None else context)
        )
        bias = None if token_weights is None else token_weights.log()[:, None, None]
        # Samples that read the same row are one long sequence of queries.
        queries = self.split_heads(self.to_q(x).reshape(len(keys), -1, x.shape[2]))
        mixed = attend(queries, keys, values, bias)
        return self.to_out(rearrange(mixed, "b h n d -> b n (h d)").reshape(x.shape))


class GatedGELU(nn.Module):
    """Linear to twice the width, value * GELU(gate)."""

    def __init__(self, inputs: int, outputs: int, ops=nn):
        super().__init__()
        self.proj = ops.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU feed-forward of four times the width. `net.1` is the dropout of the known layouts, which never
    drops here."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.net = nn.Sequential(
            GatedGELU(width, 4 * width, ops), nn.Identity(), ops.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
