"""Data layers: what one kind of output passes through, 2D for latents [B, C, H, W], 0D for latents [B, C]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DataConfig, DiffuserConfig
from .plan import Step, plan


class ResBlock(nn.Module):
    """Residual block h [B, C, H, W], emb [B, E] -> [B, C', H, W]."""

    def __init__(self, inputs: int, outputs: int, emb_width: int, kernel: int = 3, ops=nn):
        super().__init__()
        self.norm1 = ops.GroupNorm(32, inputs)
        self.conv1 = ops.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.time_emb_proj = ops.Linear(emb_width, outputs)
        self.norm2 = ops.GroupNorm(32, outputs)
        self.conv2 = ops.Conv2d(outputs, outputs, kernel, padding=kernel // 2)
        self.conv_shortcut = nn.Identity() if inputs == outputs else ops.Conv2d(inputs, outputs, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        x = self.conv1(F.silu(self.norm1(h))) + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        x = self.conv2(F.silu(self.norm2(x)))
        return self.conv_shortcut(h) + x


class Conv2D(nn.Module):
    """The 2D layers without time embedding: 3x3 convolution; "down" halves the sides, "up" doubles them
    first."""

    def __init__(self, inputs: int, outputs: int, role: str, ops=nn):
        super().__init__()
        self.upsample = role == "up"
        self.conv = ops.Conv2d(inputs, outputs, 3, stride=2 if role == "down" else 1, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(F.interpolate(h, scale_factor=2, mode="nearest") if self.upsample else h)


class Output2D(nn.Module):
    """[B, C, H, W] -> latent [B, channels, H, W]."""

    def __init__(self, inputs: int, channels: int, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(32, inputs)
        self.proj = ops.Conv2d(inputs, channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.proj(F.silu(self.norm(h)))


class ResBlock0D(ResBlock):
    """The fully connected residual block ("FCResBlock"): h [B, C, S, 1] -> [B, C', S, 1].

    It is the 2D block with 1x1 convolutions on the C * S features of one sample.
    """

    def __init__(self, inputs: int, outputs: int, emb_width: int, second_dim: int, ops=nn):
        super().__init__(inputs * second_dim, outputs * second_dim, emb_width, kernel=1, ops=ops)
        self.second_dim = second_dim
        for layer in (self.conv1, self.conv2, self.conv_shortcut):
            if isinstance(layer, nn.Conv2d):
                layer._conv_forward = linear  # type: ignore[method-assign, assignment]

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return unflatten(super().forward(h.flatten(1)[:, :, None, None], emb), self.second_dim)


class Linear0D(nn.Module):
    """The 0D layers without time embedding: [B, C] or [B, C, S, 1] -> [B, C', S, 1], one linear over all
    features.

    "down" and "up" are such layers too: there is no length to change.
    """

    def __init__(self, inputs: int, outputs: int, second_dim: int, ops=nn):
        super().__init__()
        self.second_dim = second_dim
        self.linear = ops.Linear(inputs, outputs)

    def forward(self, h: Tensor) -> Tensor:
        return unflatten(self.linear(h.flatten(1)), self.second_dim)


class Output0D(nn.Module):
    """[B, C, S, 1] -> latent [B, channels]. The norm runs over C, not over the C * S features."""

    def __init__(self, inputs: int, channels: int, second_dim: int, ops=nn):
        super().__init__()
        self.norm = ops.GroupNorm(32, inputs)
        self.proj = ops.Linear(inputs * second_dim, channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.proj(F.silu(self.norm(h)).flatten(1))


def linear(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a 1x1 convolution to one pixel, h [B, C, 1, 1], as the matrix product that it is: on CPUs up to
    four times as fast.

    It takes the place of `Conv2d._conv_forward`, which hosts' own convolutions call too, so that the weights
    keep their shape.
    """
    return F.linear(h.flatten(1), weight.flatten(1), bias)[:, :, None, None]


def unflatten(h: Tensor, second_dim: int) -> Tensor:
    """Reshape [B, C * S, …] to [B, C, S, 1], row-major."""
    return h.reshape(h.shape[0], -1, second_dim, 1)


def build_data_layers(config: DiffuserConfig, kind: str, ops=nn) -> nn.ModuleList:
    """Build all data layers of one kind of output, in the order of the plan. Only those with role "res" take
    the time embedding."""
    data, emb_width = config.data[kind], 4 * config.model_channels
    builders = {"2d": build_layer_2d, "0d": build_layer_0d}
    if data.layers not in builders:
        raise ValueError(f'The data layers of "{kind}" must be "2d" or "0d", got "{data.layers}".')
    return nn.ModuleList(
        builders[data.layers](step, data, emb_width, ops) for step in plan(config) if step.op == "data"
    )


def build_layer_2d(step: Step, data: DataConfig, emb_width: int, ops=nn) -> nn.Module:
    """Build one 2D data layer of the plan."""
    if step.role == "res":
        return ResBlock(step.inputs, step.outputs, emb_width, ops=ops)
    if step.role == "last":
        return Output2D(step.inputs, data.channels, ops)
    return Conv2D(step.inputs or data.channels, step.outputs, step.role, ops)


def build_layer_0d(step: Step, data: DataConfig, emb_width: int, ops=nn) -> nn.Module:
    """Build one 0D data layer of the plan."""
    if step.role == "res":
        return ResBlock0D(step.inputs, step.outputs, emb_width, data.second_dim, ops)
    if step.role == "last":
        return Output0D(step.inputs, data.channels, data.second_dim, ops)
    inputs = step.inputs * data.second_dim or data.channels
    return Linear0D(inputs, step.outputs * data.second_dim, data.second_dim, ops)
