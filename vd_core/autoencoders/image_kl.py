"""AutoencoderKL: images in 0..1 <-> unscaled latents (Rombach et al. 2022; the kl-f8 of Stable Diffusion)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ImageVAEConfig
from ..finite import guard
from ..pictures import check_range, check_tensor
from ..placement import check_given, convert_for


def make_norm(channels: int) -> nn.GroupNorm:
    """Make the autoencoder's group norm."""
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """[B, inputs, H, W] -> [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm1 = make_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = make_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = make_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (rearrange(project(h), "b c h w -> b 1 (h w) c") for project in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(rearrange(h, "b 1 (h w) c -> b c h w", h=x.shape[2]).contiguous())


class Downsample(nn.Module):
    """Halve the sides; padded on the right and at the bottom only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the sides."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, then an optional change of resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, resample: type[nn.Module] | None, name: str):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(inputs if i == 0 else outputs, outputs) for i in range(blocks))
        self.resample = name
        self.add_module(name, resample(outputs) if resample else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.get_submodule(self.resample)(x)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Images [B, 3, H, W] in -1..1 -> [B, 2z, H/f, W/f]."""

    def __init__(self, config: ImageVAEConfig):
        super().__init__()
        widths = [config.channels * mult for mult in config.channel_mult]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(inputs, outputs, config.num_res_blocks, Downsample if level < last else None, "downsample")
            for level, (inputs, outputs) in enumerate(zip([config.channels, *widths], widths, strict=False))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = make_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Latents [B, z, h, w] -> images [B, 3, f*h, f*w] around -1..1. `up` is numbered by resolution and run
    from its end.
    """

    def __init__(self, config: ImageVAEConfig):
        super().__init__()
        widths = [config.channels * mult for mult in config.channel_mult]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level(inputs, outputs, config.num_res_blocks + 1, Upsample if level > 0 else None, "upsample")
            for level, (inputs, outputs) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True))
        )
        self.norm_out = make_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class AutoencoderKL(nn.Module):
    """Image autoencoder; f = `factor` (8 for VD). All its methods raise ValueError where values are not
    finite, and name the part.
    """

    def __init__(self, config: ImageVAEConfig):
        super().__init__()
        self.config = config
        self.factor = 2 ** (len(config.channel_mult) - 1)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        guard(self)
        self.eval()

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, 3, H, W] in 0..1 to mean and log-variance (clamped to -30..20), each [B, z, H/f,
        W/f].

        Computes in the precision of the weights and returns that of the images; gradients pass. Raises
        ValueError for another shape, a side that is not divisible by f, values that are not in 0..1, and
        images on another device.
        """
        check_tensor(images)
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(
                f"The image autoencoder needs images [batch, 3, height, width], got {list(images.shape)}."
            )
        if any(side % self.factor for side in images.shape[2:]):
            height, width = images.shape[2:]
            raise ValueError(
                f"Image sides must be divisible by {self.factor}, got {height}x{width}: crop or resize the "
                "image first."
            )
        own = convert_for(self.quant_conv.weight, images, "images", "image autoencoder")
        check_range(images)
        mean, logvar = self.quant_conv(self.encoder(2 * own - 1)).to(images).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encode images [B, 3, H, W] in 0..1 as unscaled latents [B, z, H/f, W/f], in the images' precision.

        noise: standard normal, of the latents' shape, to sample them; None takes their mean. Raises what
               `moments` does.
        """
        mean, logvar = self.moments(images)
        if noise is not None and noise.shape != mean.shape:
            raise ValueError(
                f"The noise must have the latents' shape, {list(mean.shape)}, got {list(noise.shape)}."
            )
        return mean if noise is None else mean + (logvar / 2).exp() * noise

    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents [B, z, h, w] to images [B, 3, f*h, f*w], about 0..1, in the latents'
        precision.

        Nothing is clamped, so gradients pass everywhere. Raises ValueError for another shape or device.
        """
        check_given(latents, "latents", "image autoencoder")
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels or 0 in latents.shape:
            raise ValueError(
                f"The image autoencoder decodes latents [batch, {self.config.latent_channels}, height, "
                f"width], got {list(latents.shape)}."
            )
        own = convert_for(self.post_quant_conv.weight, latents, "latents", "image autoencoder")
        return (self.decoder(self.post_quant_conv(own)).to(latents) + 1) / 2

    def decode(self, latents: Tensor) -> Tensor:
        """Decode unscaled latents [B, z, h, w] to images [B, 3, f*h, f*w] in 0..1, as `decode_unclamped` but
        clamped.
        """
        return self.decode_unclamped(latents).clamp(0, 1)
