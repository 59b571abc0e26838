"""Context layers: cross-attention blocks that let the activation read one kind of context."""

from __future__ import annotations

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from .kv_cache import KeysValues
from .layers import Attention, FeedForward, repeat


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each with its LayerNorm and residual."""

    def __init__(self, width: int, heads: int, context_width: int, ops=nn):
        super().__init__()
        self.norm1 = ops.LayerNorm(width)
        self.attn1 = Attention(width, heads, ops=ops)
        self.norm2 = ops.LayerNorm(width)
        self.attn2 = Attention(width, heads, context_width, ops=ops)
        self.norm3 = ops.LayerNorm(width)
        self.ff = FeedForward(width, ops=ops)

    def forward(
        self,
        x: Tensor,
        context: Tensor | KeysValues,
        token_weights: Tensor | None = None,
        evaluations: int = 1,
        zero_samples: int = 0,
    ) -> Tensor:
        x = repeat(x + self.attn1(self.norm1(x)), evaluations)
        read = self.attn2(self.norm2(x[zero_samples:]), context, token_weights)
        if zero_samples:  # keys and values of zero tokens are zero, and so is what is read
            read = torch.cat(
                [self.attn2.to_out(x.new_zeros(1, 1, x.shape[2])).expand_as(x[:zero_samples]), read]
            )
        x = x + read
        return x + self.ff(self.norm3(x))


class ContextLayer(nn.Module):
    """Let h [B, C, H, W] read one context -> [evaluations * B, C, H, W]. Identical for 2D and 0D data (there
    H, W = second_dim, 1).

    context:      tokens [rows, n, d] or their `keys_values`; token_weights [rows, n]; see `Attention`.
    evaluations:  how often each sample is evaluated, each time with its own rows of the context; equal until
                  they are read.
    zero_samples: how many of the resulting samples, the first ones, read zero tokens; they have no rows.
    """

    def __init__(self, width: int, heads: int, context_width: int, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(32, width, eps=1e-6)
        self.proj_in = ops.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, context_width, ops)])
        self.proj_out = ops.Conv2d(width, width, 1)

    @property
    def block(self) -> TransformerBlock:
        """The only block of the list, which the known layouts number."""
        return cast(TransformerBlock, self.transformer_blocks[0])

    def keys_values(self, context: Tensor) -> KeysValues:
        """Compute what `forward` makes of tokens first."""
        return self.block.attn2.keys_values(context)

    def forward(
        self,
        h: Tensor,
        context: Tensor | KeysValues,
        token_weights: Tensor | None = None,
        evaluations: int = 1,
        zero_samples: int = 0,
    ) -> Tensor:
        height = h.shape[2]
        x = rearrange(self.proj_in(self.norm(h)), "b c h w -> b (h w) c")
        x = self.block(x, context, token_weights, evaluations, zero_samples)
        return repeat(h, evaluations) + self.proj_out(
            rearrange(x, "b (h w) c -> b c h w", h=height).contiguous()
        )
