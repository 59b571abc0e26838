"""Context layers: cross-attention blocks that let the activation read one kind of context."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from .layers import Attention, FeedForward


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

    def forward(self, x: Tensor, context: Tensor, emphasis: Tensor | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, emphasis)
        return x + self.ff(self.norm3(x))


class ContextLayer(nn.Module):
    """h [B, C, H, W], context [B, n, d], emphasis of its tokens [B, n] -> [B, C, H, W].

    Identical for 2D and 0D data (there H, W = second_dim, 1).
    """

    def __init__(self, width: int, heads: int, context_width: int, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(32, width, eps=1e-6)
        self.proj_in = ops.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, context_width, ops)])
        self.proj_out = ops.Conv2d(width, width, 1)

    def forward(self, h: Tensor, context: Tensor, emphasis: Tensor | None = None) -> Tensor:
        height = h.shape[2]
        x = rearrange(self.proj_in(self.norm(h)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            x = block(x, context, emphasis)
        return h + self.proj_out(rearrange(x, "b (h w) c -> b c h w", h=height).contiguous())
