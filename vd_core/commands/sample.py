"""`versatile-diffusion sample`: pictures or texts from prompts and pictures."""

from __future__ import annotations

import argparse
from functools import partial

import torch

from ..bulk.tasks import resolve_models
from ..checkpoints.load import load
from ..config import recommend_settings
from ..context import Context, blend
from ..diffuser.precision import choose_dtype
from ..embedded import MODEL
from ..files import save_numbered
from ..flows import VersatileDiffusion
from ..pictures import from_pil, read_picture, to_pil
from ..placement import choose_device
from ..sampling.checks import check_size
from ..sampling.noise import make_generator
from ..sampling.options import Sampling


def run(options: argparse.Namespace) -> None:
    """Sample, and say what was written where."""
    if not options.prompt and options.picture is None:
        raise ValueError("There is nothing to draw from: give a prompt, a --picture, or both.")
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}.")
    if options.size is not None:
        check_size("--size", options.size)
    device = torch.device(choose_device(options.device))
    files = MODEL if options.model is None else list(resolve_models(options.model))
    vd = load(files, dtype=choose_dtype(options.dtype, device.type), device=device)
    size, _, cfg = recommend_settings(vd.config)
    size = size if options.size is None else options.size
    cfg = cfg if options.cfg is None else options.cfg
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
