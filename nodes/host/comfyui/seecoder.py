"""SeeCoder as a SEECODER, under ComfyUI's memory management."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from torch import Tensor

from ....seecoder.model import SeeCoder
from .models import FlowModel


class SeeCoderEncoder:
    """A SeeCoder on core's castable modules."""

    def __init__(self, seecoder: SeeCoder, device: torch.device, dtype: torch.dtype):
        self.seecoder, self.dtype = seecoder, dtype
        self.patcher = ModelPatcher(
            seecoder, load_device=device, offload_device=model_management.unet_offload_device()
        )

    @property
    def global_tokens(self) -> int:
        """How many tokens stand for the picture as a whole; they come first."""
        return self.seecoder.config.queries.global_queries

    def encode(self, images: Tensor) -> Tensor:
        """Encode pictures [B, 3, H, W] in 0..1 as tokens [B, n, d], one after the other: memory is that of
        one, and each can be interrupted."""
        model_management.load_model_gpu(self.patcher)
        bar, rows = ProgressBar(len(images)), []
        for image in images.to(self.patcher.load_device, self.dtype):
            rows.append(self.seecoder(image[None]))
            bar.update(1)
        return torch.cat(rows).float().to(model_management.intermediate_device())


def check_width(model: ModelPatcher, width: int) -> None:
    """Raise a ValueError unless a MODEL reads text tokens of that width."""
    if isinstance(model.model, FlowModel):
        wanted = model.model.vd_config.diffuser.context.get("text")
    else:
        wanted = model.model.model_config.unet_config.get("context_dim")
    if wanted != width:
        raise ValueError(
            f"SeeCoder's tokens are {width} wide, but this model reads {wanted or 'none'}: use a model of "
            "Stable Diffusion 1 (768) with the released SeeCoders, and the embedded Versatile Diffusion with "
            "the embedded one."
        )
