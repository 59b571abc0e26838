"""How reconstructions are measured: pixel correlation, and two-way identification by CLIP.

python -m research.brain_decoding.metrics [--model FILES] [--dtype bfloat16] [--rows 8]  # image variation
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from vd_core import MODEL, Sampling, VersatileDiffusion
from vd_core.pictures import resize

from ..models import add_model_options, load_model
from .predictions import predict


def pixel_correlation(drawn: Tensor, seen: Tensor) -> float:
    """Correlate pictures [B, 3, H, W] with the seen ones, pixel by pixel; the mean over the batch, -1..1."""
    height, width = seen.shape[2:]
    pairs = torch.stack([resize(drawn, height, width).flatten(1), seen.flatten(1)], dim=1)
    return float(torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).mean())


def identify(vd: VersatileDiffusion, drawn: Tensor, seen: Tensor) -> float:
    """Compute two-way identification, 0..1, chance 0.5: how often a picture is nearer to what was seen than
    to another.

    Near is the correlation of CLIP's global embeddings, as evaluations on NSD do it.
    """
    both = [vd.encode_image(pictures).tokens[:, 0].float() for pictures in (drawn, seen)]
    table = torch.corrcoef(torch.cat(both))[: len(drawn), len(drawn) :]
    wins = (table.diagonal()[:, None] > table).float()
    return float(wins.sum() / (len(drawn) * (len(drawn) - 1)))


def describe(vd: VersatileDiffusion, drawn: Tensor, seen: Tensor) -> str:
    """Write the figures in a line."""
    two_way = f"two-way identification {identify(vd, drawn, seen):.2f}" if len(drawn) > 1 else "one row"
    return f"pixel correlation {pixel_correlation(drawn, seen):.2f}, {two_way}"


def evaluate_variations(vd: VersatileDiffusion, seen: Tensor, sampling: Sampling, seed: int = 0) -> str:
    """Measure image variation: draw each picture again from what CLIP sees in it alone."""
    side = vd.config.diffuser.data["image"].side
    latent = torch.zeros(len(seen), vd.image_vae.config.latent_channels, side, side, device=vd.device)
    drawn = vd.image_vae.decode(vd.sample("image", vd.encode_image(seen), latent, seed, sampling))
    return describe(vd, drawn, seen)


if __name__ == "__main__":
    parser = add_model_options(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--rows", type=int, default=8)
    options = parser.parse_args()
    model = load_model(options)
    guidance = 2.0 if options.model == [MODEL] else 7.5
    print(evaluate_variations(model, predict(model, options.rows).seen, Sampling("dpmpp_2m", 20, guidance)))
