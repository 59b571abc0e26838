"""The small model that ships with the project: its sizes, and its training from data to one file."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.image_kl import AutoencoderKL
from ..autoencoders.optimus import Optimus
from ..checkpoints.write import save_model
from ..config import ClipConfig, DataConfig, DiffuserConfig, ImageVAEConfig, ScheduleConfig, TextVAEConfig, TransformerConfig, VDConfig
from ..diffuser.model import Diffuser
from ..encoders.clip import Clip
from ..flows import VersatileDiffusion
from ..sampling.schedule import Schedule
from ..tokenizers import Vocabularies
from . import sheets
from .clip import ContrastiveClip, contrastive_losses
from .diffuser import FlowData, flow_losses, initialise
from .emoji import EmojiData
from .image_vae import image_vae_losses
from .loop import fit
from .text_vae import text_vae_losses

log = logging.getLogger(__name__)

# Samples per step of each flow (output kind, condition kind). The text flows are five times cheaper.
BATCHES = {("image", "text"): 64, ("image", "image"): 32, ("text", "image"): 96, ("text", "text"): 32}


def sizes(vocabularies: Vocabularies, clip_vocab: int, bert_vocab: int, gpt2_vocab: int) -> VDConfig:
    """The small model: pictures of 64x64, latents of 16x8x8 and of 64, every part in small, about 19 M parameters."""
    del vocabularies
    return VDConfig(
        diffuser=DiffuserConfig(
            model_channels=128,
            channel_mult=(1, 1),
            num_res_blocks=(1, 1),
            attention=(True, True),
            num_heads=4,
            data={"image": DataConfig("2d", channels=16), "text": DataConfig("0d", channels=64, second_dim=2)},
            context={"image": 160, "text": 160},
        ),
        schedule=ScheduleConfig(prediction="v"),
        clip=ClipConfig(
            text=TransformerConfig(128, 2, 4, 512, positions=32, vocab_size=clip_vocab),
            vision=TransformerConfig(160, 4, 4, 640, positions=65),
            image_size=64,
            patch_size=8,
            projection_dim=160,
        ),
        image_vae=ImageVAEConfig(channels=32, channel_mult=(1, 2, 3, 4), num_res_blocks=1, latent_channels=16),
        text_vae=TextVAEConfig(
            encoder=TransformerConfig(128, 2, 4, 256, positions=32, vocab_size=bert_vocab),
            decoder=TransformerConfig(128, 3, 4, 512, positions=32, vocab_size=gpt2_vocab),
            latent_width=64,
            max_pieces=30,
            max_tokens=30,
        ),
    )
