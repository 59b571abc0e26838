"""The backbone: Swin Transformer (Liu et al. 2021) for images of any size, as SeeCoder was trained with it.

Not timm's: its modules take no castable layers, and it rolls before it pads where SeeCoder's pads before it
rolls, which agrees only where no padding is needed. All maps are [B, H, W, C] inside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import SwinConfig


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad [B, H, W, C] with zeros at the bottom and at the right until both sides are multiples."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % multiple, 0, -x.shape[1] % multiple))


def relative_positions(window: int, device: torch.device) -> Tensor:
    """Row of the bias table for every query and key of a window, [n, n] with n = window ** 2 (Liu et al.

    2021, section 3.2).
    """
    cells = torch.arange(window, device=device)
    offsets = cells[:, None] - cells + window - 1  # [query, key] along one side
    rows, columns = offsets[:, None, :, None], offsets[None, :, None, :]
    return (rows * (2 * window - 1) + columns).flatten(2).flatten(0, 1)


def shift_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """Make what is added to the attention of shifted windows, [windows, n, n].

    It is 0 where two cells were neighbours before the shift, else -100.

    height, width: of the padded map.

    Quirk kept: -100 and not minus infinity, and no mask for the padding, which takes part as zeros.
    """

    def regions(side: int) -> Tensor:
        cells = torch.arange(side, device=device)
        return (cells >= side - window).int() + (cells >= side - window // 2).int()

    labels = 3 * regions(height)[:, None] + regions(width)
    labels = rearrange(labels, "(y p) (x q) -> (y x) (p q)", p=window, q=window)
    return (labels[:, :, None] != labels[:, None, :]) * -100.0


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias per relative position."""

    def __init__(self, width: int, heads: int, window: int, ops=nn):
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias = ops.Embedding((2 * window - 1) ** 2, heads)
        self.qkv = ops.Linear(width, 3 * width)
        self.proj = ops.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B * windows, n, C], windows of one image side by side; mask [windows, n, n] to add.

        Returns x's shape.
        """
        q, k, v = rearrange(self.qkv(x), "w n (three h d) -> three w h n d", three=3, h=self.heads)
        bias = (
            self.relative_position_bias(relative_positions(self.window, x.device))
            .to(x)
            .permute(2, 0, 1)[None]
        )
        if mask is not None:
            bias = bias + mask.to(x)[:, None]
            bias = bias.expand(len(x) // len(mask), *bias.shape).flatten(0, 1)
        return self.proj(
            rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=bias), "w h n d -> w n (h d)")
        )


class MLP(nn.Module):
    """Feed-forward of four times the width."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.fc1 = ops.Linear(width, 4 * width)
        self.fc2 = ops.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention in windows, feed-forward, each behind its LayerNorm and with a residual.

    Every other block has its windows shifted.
    """

    def __init__(self, width: int, heads: int, window: int, shifted: bool, ops=nn):
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1 = ops.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, ops)
        self.norm2 = ops.LayerNorm(width)
        self.mlp = MLP(width, ops)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, H, W, C]; mask: `shift_mask` of the padded map, read by shifted blocks only."""
        height, width = x.shape[1:3]
        # Quirks kept: padding comes after the norm, so it is zero and its keys are the bias of qkv; and
        # windows are shifted even where a single one covers the map.
        y = pad_to_multiple(self.norm1(x), self.window).roll((-self.shift, -self.shift), (1, 2))
        rows, sides = y.shape[1] // self.window, {"p": self.window, "q": self.window}
        y = rearrange(y, "b (y p) (x q) c -> (b y x) (p q) c", **sides)
        y = self.attn(y, mask if self.shift else None)
        y = rearrange(y, "(b y x) (p q) c -> b (y p) (x q) c", b=len(x), y=rows, **sides)
        x = x + y.roll((self.shift, self.shift), (1, 2))[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    """Images [B, 3, H, W] -> [B, H / 4, W / 4, C], sides rounded up."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.proj = ops.Conv2d(3, width, 4, stride=4)
        self.norm = ops.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images, (0, -images.shape[3] % 4, 0, -images.shape[2] % 4))
        return self.norm(self.proj(padded).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """[B, H, W, C] -> [B, H / 2, W / 2, 2 C], sides rounded up."""

    def __init__(self, width: int, ops=nn):
        super().__init__()
        self.norm = ops.LayerNorm(4 * width)
        self.reduction = ops.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Of four neighbours, those below each other come first.
        return self.reduction(
            self.norm(rearrange(pad_to_multiple(x, 2), "b (h p) (w q) c -> b h w (q p c)", p=2, q=2))
        )


class Stage(nn.Module):
    """The blocks of one level, the norm of its output, and the merging that leads to the next level."""

    def __init__(self, width: int, depth: int, heads: int, window: int, last: bool, ops=nn):
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(width, heads, window, shifted=index % 2 == 1, ops=ops) for index in range(depth)
        )
        self.norm = ops.LayerNorm(width)
        self.downsample = nn.Identity() if last else PatchMerging(width, ops)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, H, W, C] -> the level's map [B, C, H, W], and the input of the next stage, which is not
        normed.
        """
        height, width = (side + -side % self.window for side in x.shape[1:3])
        mask = shift_mask(height, width, self.window, x.device)
        for block in self.blocks:
            x = block(x, mask)
        # Contiguous, as GroupNorm is less accurate where the channels come last.
        return self.norm(x).permute(0, 3, 1, 2).contiguous(), self.downsample(x)


class Swin(nn.Module):
    """The whole backbone.

    ops: namespace of Linear, Conv2d, LayerNorm, Embedding; `torch.nn`, or a host's castable ones.
    """

    def __init__(self, config: SwinConfig, ops=nn):
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.width, ops)
        last = len(config.depths) - 1
        self.layers = nn.ModuleList(
            Stage(width, config.depths[index], config.heads[index], config.window, index == last, ops)
            for index, width in enumerate(config.levels().values())
        )
        self.eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images [B, 3, H, W] in 0..1, any sides from 1 on, to {level name: map [B, C, h, w]}.

        The strides are 4, 8, 16 and 32, and sides are rounded up.

        Quirk kept: no mean and deviation of ImageNet.
        """
        x, levels = self.patch_embed(images), {}
        for name, stage in zip(self.config.levels(), self.layers, strict=True):
            levels[name], x = stage(x)
        return levels
