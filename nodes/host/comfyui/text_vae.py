"""Optimus as a VD_TEXT_VAE, under ComfyUI's memory management."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from torch import Tensor

from ....vd_core.autoencoders.optimus import Optimus
from ...latents import Generators


class TextVAE:
    """The text autoencoder. It is an ordinary torch module, so it is on a device as a whole or not at all."""

    def __init__(self, optimus: Optimus, device: torch.device):
        self.optimus = optimus
        self.patcher = ModelPatcher(
            optimus, load_device=device, offload_device=model_management.text_encoder_offload_device()
        )

    @property
    def width(self) -> int:
        """The width of a text latent."""
        return self.optimus.config.latent_width

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode sentences as latents [B, width]."""
        model_management.load_models_gpu([self.patcher], force_full_load=True)
        return self.optimus.encode(texts).float().to(model_management.intermediate_device())

    def decode(
        self, latents: Tensor, generators: Generators, temperature: float, top_k: int, top_p: float
    ) -> list[str]:
        """Write latents [B, width] as sentences; generators: as `Optimus.decode` takes them. Can be
        interrupted after every token."""
        model_management.load_models_gpu([self.patcher], force_full_load=True)
        progress = ProgressBar(1).update_absolute
        latents = latents.to(self.patcher.load_device)
        return self.optimus.decode(latents, generators, temperature, top_k, top_p, progress)
