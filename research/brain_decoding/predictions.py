"""Stand-ins for what a decoder of brain activity predicts, so that the examples run offline."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vd_core import VersatileDiffusion
from vd_core.embedded import FOLDER
from vd_core.training.dataset import CaptionedPictures

ERROR = 0.3  # of predicted tokens, as a share of their standard deviation


class Predictions(NamedTuple):
    """For each seen picture: itself, the tokens of its look and of its caption, and a blurry guess of it."""

    seen: Tensor
    images: Tensor
    texts: Tensor
    guesses: Tensor


def predict(vd: VersatileDiffusion, rows: int, seed: int = 0) -> Predictions:
    """Take held-out pictures of the embedded data, and blur and disturb what CLIP sees in them.

    Works with any model: tokens have its width, and guesses 8 times its latents' side.
    """
    data, generator = CaptionedPictures.load(FOLDER), torch.Generator().manual_seed(seed)
    held_out = [i for i in range(len(data.pixels)) if i not in set(data.train.tolist())][
        :: len(data.pixels) // 40
    ]
    chosen = held_out[:rows]
    seen = data.pixels[chosen].to(vd.device)
    side = vd.image_vae.factor * vd.config.diffuser.data["image"].side
    images, texts = vd.encode_image(seen).tokens, vd.encode_text([data.captions[i] for i in chosen]).tokens

    def disturb(tokens: Tensor) -> Tensor:
        noisy = tokens + ERROR * tokens.std() * torch.randn(tokens.shape, generator=generator).to(tokens)
        return noisy / noisy[:, :1].norm(dim=-1, keepdim=True)

    guesses = F.interpolate(F.avg_pool2d(seen, 8), (side, side), mode="bicubic").clamp(0, 1)
    return Predictions(seen, disturb(images), texts, guesses)
