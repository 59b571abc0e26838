"""SeeCoder's decoder: levels of the backbone -> maps of one width (Prompt-Free Diffusion, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import DecoderConfig


class ValueAttention(nn.Module):
    """The decoder's "self-attention", which only takes the values.

    Quirk kept: the paper describes attention among the tokens, but the released models attend over the batch
    axis, so that with the one image of the official app every token sees itself alone: softmax is 1, queries
    and keys have no effect. The official code mixes the images of a larger batch; here each stays alone.
    """

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.v_proj = ops.Linear(width, width)
        self.out_proj = ops.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.v_proj(x))


class DecoderLayer(nn.Module):
    """Attention and feed-forward on tokens [B, n, width], each followed by its LayerNorm."""

    def __init__(self, width: int, mlp_width: int, ops=nn):
        super().__init__()
        self.self_attn = ValueAttention(width, ops)
        self.norm1 = ops.LayerNorm(width)
        self.linear1 = ops.Linear(width, mlp_width)
        self.linear2 = ops.Linear(mlp_width, width)
        self.norm2 = ops.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class ConvNorm(nn.Module):
    """Convolution without bias and GroupNorm, at the same size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, ops=nn):
        super().__init__()
        self.conv = ops.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = ops.GroupNorm(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Decoder(nn.Module):
    """Projects every level to one width, runs its tokens through the transformer, and adds the level once
    more.

    As the tokens never see each other (`ValueAttention`), the levels run one by one. ops: see `SeeCoder`.
    """

    def __init__(self, config: DecoderConfig, ops=nn):
        super().__init__()
        self.config = config
        width = config.width
        self.inproj_layers = nn.ModuleDict(
            {
                name: nn.Sequential(ops.Conv2d(inputs, width, 1), ops.GroupNorm(32, width))
                for name, inputs in config.levels.items()
            }
        )
        self.lateral_layers = nn.ModuleDict(
            {name: ConvNorm(inputs, width, 1, ops) for name, inputs in (config.levels | config.finer).items()}
        )
        self.output_layers = nn.ModuleDict({name: ConvNorm(width, width, 3, ops) for name in config.finer})
        self.level_embed = ops.Embedding(len(config.levels), width)
        self.transformer = nn.ModuleDict(
            {
                "layers": nn.ModuleList(
                    DecoderLayer(width, config.mlp_width, ops) for _ in range(config.layers)
                )
            }
        )
        self.eval()

    def forward(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn maps [B, C, h, w] by level name into maps [B, width, h, w] by level name, finest level first.

        Levels it does not know are ignored.
        """
        decoded = {}
        # Quirk kept: the first embedding belongs to the coarsest level; in the query transformer, to the
        # finest.
        for index, name in enumerate(sorted(self.config.levels, reverse=True)):
            tokens = rearrange(self.inproj_layers[name](levels[name]), "b c h w -> b (h w) c")
            tokens = tokens + self.level_embed(torch.tensor(index, device=tokens.device)).to(tokens)
            for layer in self.transformer["layers"].children():
                tokens = layer(tokens)
            x = rearrange(tokens, "b (h w) c -> b c h w", h=levels[name].shape[2])
            decoded[name] = x + self.lateral_layers[name](levels[name])
        # The loop ends at the finest of the levels.
        for finer in self.config.finer:
            top = F.relu(self.output_layers[finer](decoded[name]))
            top = F.interpolate(top, levels[finer].shape[2:], mode="bilinear", align_corners=False)
            decoded[finer] = self.lateral_layers[finer](levels[finer]) + top
        return {name: decoded[name] for name in sorted(decoded)}
