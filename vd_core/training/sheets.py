"""Contact sheets: pictures for a person to look at while and after a model is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.image_kl import AutoencoderKL
from ..files import write_whole
from ..flows import VersatileDiffusion
from ..pictures import to_pil
from ..sampling.noise import sample_noise
from ..sampling.options import Sampling
from ..sheet import tile_pictures
from .dataset import CaptionedPictures


def write_grid(rows: list[Tensor], path: Path) -> None:
    """Write rows of pictures [N, 3, H, W] in 0..1, all of one length, as one PNG."""
    with write_whole(path) as file:
        to_pil(tile_pictures(torch.cat(rows), len(rows[0])))[0].save(file, "PNG")


def choose_pairs(data: CaptionedPictures, count: int = 20) -> Tensor:
    """Choose the indices of pictures to show: trained pairs, then as many held-out ones, evenly spread."""
    return torch.cat(
        [part[torch.linspace(0, len(part) - 1, count).long()] for part in (data.train, data.held_out)]
    )


@torch.no_grad()
def draw_reconstructions(vae: AutoencoderKL, data: CaptionedPictures, out: Path) -> None:
    """Draw `out`/sheet.png: pictures and their reconstructions, trained above held out."""
    rows = []
    for images in data.pixels[choose_pairs(data)].chunk(2):
        rows += [images, vae.decode(vae.encode(images))]
    write_grid(rows, out / "sheet.png")


@torch.no_grad()
def draw_samples(
    model: VersatileDiffusion, data: CaptionedPictures, out: Path, steps: int = 20, cfg: float = 2.0
) -> None:
    """Draw `out`/sheet.png: pictures, text-to-image, image variation, trained above held out; captions of the
    pictures in `out`/sheet.txt."""
    rows, lines, sampling = [], [], Sampling("dpmpp_2m", steps=steps, cfg=cfg)
    for indices in choose_pairs(data).chunk(2):
        images, captions = data.pixels[indices], [data.captions[i] for i in indices]
        latent = model.image_vae.encode(images)
        text, image = model.encode_text(captions), model.encode_image(images)
        rows.append(images)
        for context in (text, image):
            rows.append(
                model.image_vae.decode(model.sample("image", [context], latent, sample_noise(1), sampling))
            )
        noise = sample_noise(1)
        words = model.sample("text", [image], model.text_vae.encode(captions), noise, sampling)
        read = model.text_vae.decode(words, noise.generators, temperature=0)
        lines += [f"{caption}: {text}" for caption, text in zip(captions, read, strict=True)]
    write_grid(rows, out / "sheet.png")
    with write_whole(out / "sheet.txt") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
