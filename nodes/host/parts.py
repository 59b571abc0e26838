"""Encoders and autoencoders without ComfyUI, with the methods that nodes call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...seecoder.model import SeeCoder
from ...vd_core.autoencoders.image_kl import AutoencoderKL
from .memory import in_parts


@dataclass(eq=False)
class ImageVAE:
    """A VAE, with the two methods that core's nodes call."""

    autoencoder: AutoencoderKL

    def encode(self, pixels: Tensor) -> Tensor:
        """IMAGE [B, H, W, 3] -> latents [B, C, h, w], unscaled."""
        return in_parts(self.autoencoder.encode, pixels[..., :3].movedim(-1, 1))

    def decode(self, samples: Tensor) -> Tensor:
        """Latents [B, C, h, w], unscaled -> IMAGE [B, H, W, 3]."""
        return in_parts(self.autoencoder.decode, samples).movedim(1, -1)


@dataclass(eq=False)
class SeeCoderEncoder:
    """A SEECODER."""

    seecoder: SeeCoder

    @property
    def global_tokens(self) -> int:
        """How many tokens stand for the picture as a whole; they come first."""
        return self.seecoder.config.queries.global_queries

    def encode(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 -> tokens [B, n, d]."""
        return torch.cat([self.seecoder(image[None]) for image in images])
