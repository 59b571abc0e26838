"""Training of the small image autoencoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.image_kl import AutoencoderKL

# Keeps the latents bounded and near each other; a larger one blurs (Rombach et al. 2022, appendix G, use
# 1e-6)
KL_WEIGHT = 1e-5
# At most, of noise on the latents, as a share of their spread: the decoder is to forgive what a diffuser
# leaves
ROUGHNESS = 0.3


def compute_edges(images: Tensor) -> Tensor:
    """Compute the differences of neighbouring pixels, both directions, [B, 2C, H-1, W-1]."""
    x = images[..., 1:, :-1] - images[..., :-1, :-1]
    y = images[..., :-1, 1:] - images[..., :-1, :-1]
    return torch.cat([x, y], dim=1)


def mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the batch."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """Compare pictures y with x, both [B, 3, H, W] in 0..1: pixels, edges, and colours of 8x8 blocks.

    The edges keep lines sharp; the colours come late without the blocks.
    """
    pixels = F.l1_loss(y, x) + 4 * F.mse_loss(y, x)
    colours = F.l1_loss(F.avg_pool2d(y, 8), F.avg_pool2d(x, 8))
    return pixels + F.l1_loss(compute_edges(y), compute_edges(x)) + 6 * colours


def image_vae_losses(images: Tensor, batch: int):
    """Make a loss function for `loop.fit` over images [N, 3, H, W] in 0..1.

    `reconstruction_loss` and KL. The decoder meets rough latents, each between not at all and ROUGHNESS.
    """

    def losses(vae: AutoencoderKL, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        x = mirror(images[torch.randint(len(images), (batch,), generator=generator)], generator)
        noise_like = torch.randn(
            batch, vae.config.latent_channels, *(s // vae.factor for s in x.shape[2:]), generator=generator
        )
        with torch.autocast("cpu", torch.bfloat16):
            mean, logvar = vae.moments(x)
            mean, logvar = mean.float(), logvar.float()
            rough = ROUGHNESS * mean.detach().std() * torch.rand(batch, 1, 1, 1, generator=generator)
            y = vae.decode_unclamped(mean + (logvar.exp() + rough.square()).sqrt() * noise_like).float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
        yield "image_vae", reconstruction_loss(y, x) + KL_WEIGHT * kl

    return losses


@torch.no_grad()
def fit_preview_colors(latents: Tensor, images: Tensor) -> tuple[tuple[float, float, float], ...]:
    """Fit `DataConfig.preview` to scaled latents [B, C, h, w] of pictures [B, 3, H, W] in 0..1: the best
    linear map to their colours."""
    small = F.interpolate(images, latents.shape[2:], mode="area") * 2 - 1
    known, wanted = (x.movedim(1, -1).flatten(0, -2) for x in (latents, small))
    map_ = torch.linalg.lstsq(torch.cat([known, torch.ones_like(known[:, :1])], dim=1), wanted).solution
    return tuple(tuple(round(value, 4) for value in row) for row in map_.tolist())


def measure_psnr(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Measure the peak signal-to-noise ratio in dB of decode(encode(images)), [N]; images [N, 3, H, W] in
    0..1."""
    errors = [
        (vae.decode(vae.encode(chunk)) - chunk).square().mean(dim=(1, 2, 3)) for chunk in images.split(64)
    ]
    return -10 * torch.cat(errors).log10()
