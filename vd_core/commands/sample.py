"""`versatile-diffusion sample`: pictures or texts from prompts and pictures."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from ..checkpoints.load import load
from ..context import Context, blend
from ..diffuser.precision import DTYPES, choose_dtype
from ..embedded import MODEL
from ..files import save_numbered
from ..flows import VersatileDiffusion
from ..pictures import from_pil, read_picture, to_pil
from ..placement import choose_device, resolve_device
from ..sampling.noise import make_generator
from ..sampling.options import Sampling
from ..sampling.samplers import SAMPLERS
from .jobs import DTYPE_HELP


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "prompt", nargs="?", default="", help="in words; may be left out where there is a --picture"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a picture as context")
    parser.add_argument(
        "--ratio", type=float, default=0.5, help="share of the prompt beside a picture; default: %(default)s"
    )
    parser.add_argument("--write", action="store_true", help="write texts in place of pictures")
    parser.add_argument("--count", type=int, default=4, help="how many; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="FILE",
        help="files, or OWNER/NAME of the hub; default: the embedded one",
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the pictures; default: 512, embedded model 64"
    )
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, help="guidance scale; default: 7.5, embedded model 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=choose_device(), help="default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=DTYPE_HELP)


def run(options: argparse.Namespace) -> None:
    """Sample, and say what was written where."""
    if not options.prompt and options.picture is None:
        raise ValueError("There is nothing to draw from: give a prompt, a --picture, or both.")
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}.")
    vd = load(
        options.model or MODEL,
        dtype=choose_dtype(options.dtype, resolve_device(options.device).type),
        device=options.device,
    )
    size = options.size or (512 if options.model else 64)
    cfg = options.cfg if options.cfg is not None else (7.5 if options.model else 2.0)
    sampling = Sampling(options.sampler, options.steps, cfg)
    contexts = make_contexts(vd, options)
    if options.write:
        shape = (options.count, vd.config.diffuser.data["text"].channels)
        latents = vd.sample("text", contexts, torch.zeros(shape, device=vd.device), options.seed, sampling)
        words = vd.text_vae.decode(latents, [make_generator(options.seed + i) for i in range(options.count)])
        path = save_numbered(
            options.out, "sample", ".txt", lambda file: file.write("\n".join([*words, ""]).encode())
        )
        print("\n".join([*words, str(path)]))
        return
    side = size // vd.image_vae.factor
    latent = torch.zeros(options.count, vd.image_vae.config.latent_channels, side, side, device=vd.device)
    for picture in to_pil(vd.image_vae.decode(vd.sample("image", contexts, latent, options.seed, sampling))):
        print(save_numbered(options.out, "sample", ".png", partial(picture.save, format="png")))


def make_contexts(vd: VersatileDiffusion, options: argparse.Namespace) -> list[Context]:
    """Encode the prompt and the picture, and blend them where there are both."""
    if options.picture is None:
        return [vd.encode_text(options.prompt)]
    picture = from_pil([read_picture(options.picture, str(options.picture))]).to(vd.device)
    image = vd.encode_image(picture, null="black" if options.write else "zeros")
    return blend([image], [vd.encode_text(options.prompt)], options.ratio) if options.prompt else [image]
