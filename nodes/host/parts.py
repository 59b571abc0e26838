"""Encoders and autoencoders without ComfyUI, with the methods that nodes call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...seecoder.model import SeeCoder
from ...vd_core.autoencoders.image_kl import AutoencoderKL
from ...vd_core.autoencoders.optimus import Optimus
from ...vd_core.memory import check_room, run_in_parts
from ..latents import Generators
from .terminal import show_progress


@dataclass(eq=False)
class ImageVAE:
    """A VAE, with the two methods that core's nodes call."""

    autoencoder: AutoencoderKL

    def encode(self, pixels: Tensor) -> Tensor:
        """Encode IMAGE [B, H, W, 3] as unscaled latents [B, C, h, w]."""
        self.check_room(pixels.shape[2], pixels.shape[1])
        return run_in_parts(self.autoencoder.encode, pixels[..., :3].movedim(-1, 1))

    def decode(self, samples: Tensor) -> Tensor:
        """Decode unscaled latents [B, C, h, w] to IMAGE [B, H, W, 3]."""
        self.check_room(
            samples.shape[-1] * self.autoencoder.factor, samples.shape[-2] * self.autoencoder.factor
        )
        return run_in_parts(self.autoencoder.decode, samples).movedim(1, -1)

    def check_room(self, width: int, height: int) -> None:
        """Raise ValueError for a picture that cannot be encoded or decoded here: four tensors of the first
        level are the least of it."""
        check_room(
            f"A picture of {width}x{height}", 4 * 4 * self.autoencoder.config.channels * width * height
        )


@dataclass(eq=False)
class TextVAE:
    """A VD_TEXT_VAE."""

    optimus: Optimus

    @property
    def width(self) -> int:
        """The width of a text latent."""
        return self.optimus.config.latent_width

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode sentences as latents [B, width]."""
        return self.optimus.encode(texts)

    def decode(
        self, latents: Tensor, generators: Generators, temperature: float, top_k: int, top_p: float
    ) -> list[str]:
        """Write latents [B, width] as sentences; generators: as `Optimus.decode` takes them."""
        with show_progress("writing") as report:
            return self.optimus.decode(latents, generators, temperature, top_k, top_p, report)


@dataclass(eq=False)
class SeeCoderEncoder:
    """A SEECODER."""

    seecoder: SeeCoder

    @property
    def global_tokens(self) -> int:
        """How many tokens stand for the picture as a whole; they come first."""
        return self.seecoder.config.queries.global_queries

    def encode(self, images: Tensor) -> Tensor:
        """Encode pictures [B, 3, H, W] in 0..1 as tokens [B, n, d]."""
        return torch.cat([self.seecoder(image[None]) for image in images])
