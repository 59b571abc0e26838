"""The query transformer: learned queries read the decoded maps and become the tokens.

Prompt-Free Diffusion, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import QueryConfig
from .positions import PositionMLP


class Attention(nn.Module):
    """Multi-head attention of query [B, n, width] to key and value [B, m, width]."""

    def __init__(self, width: int, heads: int, ops=nn):
        super().__init__()
        self.heads = heads
        self.q_proj = ops.Linear(width, width)
        self.k_proj = ops.Linear(width, width)
        self.v_proj = ops.Linear(width, width)
        self.out_proj = ops.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            rearrange(x, "b n (h d) -> b h n d", h=self.heads)
            for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        )
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class CrossAttentionLayer(nn.Module):
    """Queries read a map; residual, then LayerNorm."""

    def __init__(self, width: int, heads: int, ops=nn):
        super().__init__()
        self.multihead_attn = Attention(width, heads, ops)
        self.norm = ops.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self.norm(x + self.multihead_attn(x + positions, keys, values))


class SelfAttentionLayer(nn.Module):
    """Queries read each other; residual, then LayerNorm."""

    def __init__(self, width: int, heads: int, ops=nn):
        super().__init__()
        self.self_attn = Attention(width, heads, ops)
        self.norm = ops.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return self.norm(x + self.self_attn(x + positions, x + positions, x))


class FeedForwardLayer(nn.Module):
    """Two linear layers; residual, then LayerNorm."""

    def __init__(self, width: int, mlp_width: int, ops=nn):
        super().__init__()
        self.linear1 = ops.Linear(width, mlp_width)
        self.linear2 = ops.Linear(mlp_width, width)
        self.norm = ops.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class QueryTransformer(nn.Module):
    """Local queries read the maps, one level after the other; then all queries read each other.

    ops: see `SeeCoder`.
    """

    def __init__(self, config: QueryConfig, ops=nn):
        super().__init__()
        self.config = config
        width, count = config.width, config.global_queries + config.local_queries
        self.init_query = ops.Embedding(count, width)
        self.query_pos_embedding = ops.Embedding(count, width)
        self.level_embed = ops.Embedding(config.levels, width)
        self.input_proj = nn.ModuleList(
            ops.Conv2d(config.inputs, width, 1)
            if config.inputs != width or config.project_inputs
            else nn.Identity()
            for _ in range(config.levels)
        )
        self.pe_layer = PositionMLP(config.frequencies, width, ops) if config.frequencies else None
        layers = range(config.layers)
        self.transformer_crossatt_layers = nn.ModuleList(
            CrossAttentionLayer(width, config.heads, ops) for _ in layers
        )
        self.transformer_selfatt_layers = nn.ModuleList(
            SelfAttentionLayer(width, config.heads, ops) for _ in layers
        )
        self.transformer_feedforward_layers = nn.ModuleList(
            FeedForwardLayer(width, config.mlp_width, ops) for _ in layers
        )
        self.eval()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Read maps [B, inputs, h, w], finest first; return tokens [B, global + local, width]."""
        read = [self.keys_and_values(index, x) for index, x in enumerate(maps)]
        queries = torch.arange(self.init_query.num_embeddings, device=maps[0].device)
        tokens = self.init_query(queries).to(maps[0]).expand(len(maps[0]), -1, -1)
        positions = self.query_pos_embedding(queries).to(maps[0])
        first_local = self.config.global_queries
        layers = zip(
            self.transformer_crossatt_layers,
            self.transformer_selfatt_layers,
            self.transformer_feedforward_layers,
            strict=True,
        )
        for index, (cross_attention, self_attention, feed_forward) in enumerate(layers):
            local = cross_attention(
                tokens[:, first_local:], positions[first_local:], *read[index % len(read)]
            )
            tokens = torch.cat([tokens[:, :first_local], local], dim=1)
            tokens = feed_forward(self_attention(tokens, positions))
        return tokens

    def keys_and_values(self, index: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what the queries read of one map, both [B, h * w, width]; positions are part of the keys
        only."""
        height, width = x.shape[2:]
        values = rearrange(self.input_proj[index](x), "b c h w -> b (h w) c")
        values = values + self.level_embed(torch.tensor(index, device=x.device)).to(values)
        return (values if self.pe_layer is None else values + self.pe_layer(height, width, values)), values
