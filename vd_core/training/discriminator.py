"""The adversary of few large steps: tells real latents from drawn ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DataConfig
from ..diffuser.data import ResBlock
from ..diffuser.layers import TimeEmbedding

BLOCKS = 3  # residual blocks; behind each, latents with sides above 2 are halved


class ContextReader(nn.Module):
    """Tokens [B, n, d] -> one vector [B, width]: a weighted mean of them per head, through two layers."""

    def __init__(self, tokens_width: int, width: int, heads: int = 4):
        super().__init__()
        # CLIP's tokens are vectors of norm about 1, so their entries are small
        self.scale = tokens_width**0.5
        self.scores = nn.Linear(tokens_width, heads)
        self.layers = nn.Sequential(
            nn.Linear(heads * tokens_width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens * self.scale
        shares = self.scores(tokens).softmax(dim=1)
        return self.layers(torch.einsum("bnh,bnd->bhd", shares, tokens).flatten(1))


class LatentDiscriminator(nn.Module):
    """D(x_next, x, t, context) -> logits [B], above 0 for what looks real (Xiao et al. 2022, section 4).

    It sees the less noisy latent beside the noisier one at timestep t. Residual blocks of the diffuser's
    kind; the context is read by projection (Miyato & Koyama 2018, eq. 3).

    data:     sizes of the latents, [B, C, H, W] or [B, C].
    contexts: condition kind -> width of its tokens.
    """

    def __init__(self, data: DataConfig, contexts: Mapping[str, int], width: int = 128):
        super().__init__()
        kernel = 3 if data.layers == "2d" else 1
        self.conv_in = nn.Conv2d(2 * data.channels, width, kernel, padding=kernel // 2)
        self.time_embed = TimeEmbedding(width)
        self.blocks = nn.ModuleList(ResBlock(width, width, 4 * width, kernel) for _ in range(BLOCKS))
        self.readers = nn.ModuleDict({kind: ContextReader(size, width) for kind, size in contexts.items()})
        self.out = nn.Linear(width, 1)

    def forward(self, x_next: Tensor, x: Tensor, t: Tensor, kind: str, tokens: Tensor) -> Tensor:
        h = torch.cat([x_next, x], dim=1)
        h = self.conv_in(h if h.ndim == 4 else h[:, :, None, None])
        embedding = self.time_embed(t, h.dtype)
        for block in self.blocks:
            h = block(h, embedding)
            if min(h.shape[2:]) > 2:
                h = F.avg_pool2d(h, 2)
        h = F.silu(h).mean(dim=(2, 3))
        projected = (h * self.readers[kind](tokens)).sum(dim=1) / h.shape[1] ** 0.5
        return self.out(h)[:, 0] + projected
