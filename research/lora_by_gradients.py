"""A LoRA trained through the sampler: gradients pass from CLIP's view of a drawn picture back to the context
layers.

python -m research.lora_by_gradients [--model FILES] [--dtype bfloat16] [--updates 20]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from vd_core import Context, Sampling, VersatileDiffusion
from vd_core.training.lora import Lora, select

from .brain_decoding.predictions import predict
from .models import add_model_options, load_model


def learn(
    vd: VersatileDiffusion, context: Context, wanted: Tensor, updates: int, rate: float = 3e-3
) -> tuple[Lora, list[float]]:
    """Learn to draw, under a context, what CLIP sees as `wanted` [1, d]; returns the LoRA and 1 - cosine per
    update.
    """
    lora = Lora(vd.diffuser, select(vd.diffuser, [f"context.{context.kind}:attn2"]), rank=4, alpha=4)
    optimizer, losses = torch.optim.Adam(lora.parameters(), lr=rate), []
    side, channels = vd.config.diffuser.data["image"].side, vd.image_vae.config.latent_channels
    latent = torch.zeros(1, channels, side, side, device=vd.device)
    with lora.attach(vd.diffuser):
        for _ in range(updates):
            drawn = vd.sample("image", context, latent, 0, Sampling("dpmpp_2m", steps=4, cfg=1.0))
            seen = vd.clip.embed_image(vd.image_vae.decode_unclamped(drawn))
            loss = 1 - torch.cosine_similarity(seen.float(), wanted.float()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return lora, losses


if __name__ == "__main__":
    parser = add_model_options(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--updates", type=int, default=20)
    options = parser.parse_args()
    model = load_model(options)
    target = model.encode_image(predict(model, 1).seen).tokens[:, 0]
    _, distances = learn(model, model.encode_text("banana, flat style"), target, options.updates)
    print(
        f"1 - cosine to the wanted picture: {distances[0]:.3f} before, {distances[-1]:.3f} after "
        f"{len(distances)} updates"
    )
