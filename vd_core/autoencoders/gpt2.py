"""The transformer of GPT-2 (Radford et al. 2019) with a key/value cache that may start with slots that no
token made.

Our own and not transformers' GPT2Model: its cache changed hands several times, and up to 4.51 it leaves a
given `DynamicCache` as it is, so that a decoding loop forgets every token without an error. Names of weights
are those of GPT2Model.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import TransformerConfig

DROPOUT = 0.1  # in training only
INIT_STD = 0.02

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each layer, [B, heads, slots, width / heads]


class GPT2(nn.Module):
    """Token embeddings -> hidden states, causal. The output layer, tied to `wte`, is left to the caller."""

    def __init__(self, sizes: TransformerConfig):
        super().__init__()
        self.wte = nn.Embedding(sizes.vocab_size, sizes.width)
        self.wpe = nn.Embedding(sizes.positions, sizes.width)
        self.h = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.ln_f = nn.LayerNorm(sizes.width)
        for embedding in (self.wte, self.wpe):
            nn.init.normal_(embedding.weight, std=INIT_STD)

    def forward(self, embeddings: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Embeddings [B, m, width] of the next tokens, without positions -> hidden states [B, m, width] and
        the longer cache.

        cache: the slots so far, none for plain GPT-2. Positions count on from them; a token sees all of them
               and the tokens up to itself.
        """
        seen, new = cache[0][0].shape[2], embeddings.shape[1]
        positions = torch.arange(seen, seen + new, device=embeddings.device)
        visible = torch.ones(new, seen + new, dtype=torch.bool, device=embeddings.device).tril(seen)
        x = F.dropout(embeddings + self.wpe(positions), DROPOUT, self.training)
        longer = []
        for block, slots in zip(self.h, cache, strict=True):
            x, slots = block(x, slots, visible)
            longer.append(slots)
        return self.ln_f(x), longer


class Block(nn.Module):
    """Attention and feed-forward layer, each behind a norm and beside a residual path."""

    def __init__(self, sizes: TransformerConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width)
        self.attn = Attention(sizes)
        self.ln_2 = nn.LayerNorm(sizes.width)
        self.mlp = FeedForward(sizes)

    def forward(
        self, x: Tensor, slots: tuple[Tensor, Tensor], visible: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, slots = self.attn(self.ln_1(x), slots, visible)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), slots


class Attention(nn.Module):
    """Multi-head self-attention over the cached slots and the new tokens."""

    def __init__(self, sizes: TransformerConfig):
        super().__init__()
        self.heads = sizes.heads
        self.c_attn = Projection(sizes.width, 3 * sizes.width)
        self.c_proj = Projection(sizes.width, sizes.width, INIT_STD / sqrt(2 * sizes.layers))

    def forward(
        self, x: Tensor, slots: tuple[Tensor, Tensor], visible: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, m, width], visible [m, slots + m] -> the same shape, and the keys and values with those of x
        behind.
        """
        q, k, v = rearrange(self.c_attn(x), "b m (three h d) -> three b h m d", three=3, h=self.heads)
        k, v = (torch.cat(pair, dim=2) for pair in zip(slots, (k, v), strict=True))
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, dropout_p=DROPOUT if self.training else 0.0
        )
        return F.dropout(self.c_proj(rearrange(out, "b h m d -> b m (h d)")), DROPOUT, self.training), (k, v)


class FeedForward(nn.Module):
    """Two layers around a GELU (the tanh approximation)."""

    def __init__(self, sizes: TransformerConfig):
        super().__init__()
        self.c_fc = Projection(sizes.width, sizes.mlp_width)
        self.c_proj = Projection(sizes.mlp_width, sizes.width, INIT_STD / sqrt(2 * sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")), DROPOUT, self.training)


class Projection(nn.Module):
    """A linear layer whose weight lies [in, out], as in GPT-2's checkpoints."""

    def __init__(self, width_in: int, width_out: int, std: float = INIT_STD):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_in, width_out))
        self.bias = nn.Parameter(torch.empty(width_out))
        nn.init.normal_(self.weight, std=std)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.T, self.bias)
