"""Trains the small SeeCoder that ships with the project, against the embedded Versatile Diffusion, and
measures it.

python -m seecoder train RUN      # resumes where it was stopped; writes RUN/seecoder.safetensors
python -m seecoder evaluate       # the shipped one
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import nn

from vd_core.checkpoints.load import load
from vd_core.checkpoints.write import write_safetensors
from vd_core.context import Context
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.schedule import Schedule
from vd_core.training.context_encoder import context_encoder_losses
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import draw, measure_nearest
from vd_core.training.loop import fit
from vd_core.training.small_model import digest

from .checkpoints import collect_released_state
from .checkpoints import load as load_seecoder
from .config import DecoderConfig, QueryConfig, SeeCoderConfig, SwinConfig
from .embedded import MODEL as EMBEDDED
from .model import SeeCoder
from .query_transformer import FeedForwardLayer

# As many tokens as the embedded model's prompts have, 4 of them global, in the width of its contexts.
SIZES = SeeCoderConfig(
    SwinConfig(width=24, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4),
    DecoderConfig({"res3": 48, "res4": 96, "res5": 192}, width=96, layers=2, mlp_width=192),
    QueryConfig(inputs=96, width=160, local_queries=28, layers=6, mlp_width=320),
)


@torch.no_grad()
def initialise(encoder: SeeCoder) -> None:
    """Set the starting weights: position biases near zero, tokens of about norm 1.

    Of that norm are the contexts that the diffuser knows.
    """
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and "relative_position_bias" in name:
            module.weight.mul_(0.02)
    *_, last = (layer.norm for layer in encoder.modules() if isinstance(layer, FeedForwardLayer))
    last.weight.fill_(SIZES.queries.width**-0.5)


def train(vd: VersatileDiffusion, data: CaptionedPictures, out: Path, steps: int, batch: int) -> None:
    """Train on the training pictures, or resume."""
    images = data.pixels[data.train]
    latents = (
        torch.cat([vd.image_vae.encode(chunk) for chunk in images.split(64)])
        * vd.config.diffuser.data["image"].latent_scale
    )
    torch.manual_seed(0)
    encoder = SeeCoder(SIZES)
    initialise(encoder)
    trained_on = {"diffuser": digest(vd.diffuser.state_dict().values()), "data": digest([images, latents])}
    losses = context_encoder_losses(vd.diffuser, Schedule(vd.config.schedule), "text", latents, images, batch)
    encoder = fit(encoder, losses, out, steps=steps, lr=1e-3, trained_on=trained_on, weight_decay=0.05)
    write_safetensors(
        out / "seecoder.safetensors", collect_released_state(encoder), {"format": "pt"}, torch.float16
    )


@torch.inference_mode()
def evaluate(vd: VersatileDiffusion, data: CaptionedPictures, encoder: SeeCoder) -> None:
    """Print how often the picture drawn after a reference is nearer to it than to all others, or to all but
    four."""
    latents = torch.cat([vd.image_vae.encode(chunk) for chunk in data.pixels.split(64)])
    for part, indices in (("trained", data.train), ("held out", data.held_out)):
        tokens = torch.cat([encoder(chunk) for chunk in data.pixels[indices].split(64)])
        ranks = measure_nearest(draw(vd, [Context("text", tokens)], latents[indices]), latents, indices)
        print(f"{part}, {len(indices)} references among {len(latents)} pictures: {ranks}")


def main(argv: list[str] | None = None) -> None:
    """Run `python -m seecoder train` with these arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("out", type=Path, metavar="RUN")
    training.add_argument("--steps", type=int, default=5000)
    training.add_argument("--batch", type=int, default=32)
    commands.add_parser("evaluate").add_argument("--model", type=Path, default=EMBEDDED)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    vd, data = (
        load(MODEL, parts=["image_vae", "diffuser.data.image", "diffuser.context.text"]),
        CaptionedPictures.load(FOLDER),
    )
    if args.command == "train":
        train(vd, data, args.out, args.steps, args.batch)
    else:
        evaluate(vd, data, load_seecoder(args.model))
