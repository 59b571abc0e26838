"""Measures all flows of a model with melodies, counts its parameters against those of separate models, and
shows what the flows make.

python -m research.melodies.evaluate RUN   # RUN/flows.png and .wav files; figures on both halves
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.config import DiffuserConfig, VDConfig
from vd_core.context import Context
from vd_core.diffuser.model import Diffuser
from vd_core.embedded import FOLDER, MODEL
from vd_core.files import write_whole
from vd_core.flows import VersatileDiffusion
from vd_core.lettering import break_lines, load_font
from vd_core.pictures import from_pil, to_pil
from vd_core.sampling.noise import sample_noise
from vd_core.sheet import draw_sheet
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import SAMPLING, compute_share, measure_agreement, measure_nearest, read, see

from . import autoencoder
from .encoder import encode_melody
from .melodies import draw_roll, recognise, write_songbook, write_wav
from .train import extend


def sample(vd: VersatileDiffusion, data: str, context: Context) -> Tensor:
    """Sample a latent of a kind for each row of a context."""
    sizes, count = vd.config.diffuser.data[data], len(context.tokens)
    like = torch.zeros(count, sizes.channels, *([sizes.side] * 2 if sizes.layers == "2d" else []))
    return vd.sample(data, [context], like, sample_noise(1), SAMPLING)


def make_contexts(
    vd: VersatileDiffusion, pictures: Tensor, captions: list[str], melodies: Tensor
) -> dict[str, Context]:
    """Make the same things as contexts of every kind."""
    return {
        "image": vd.encode_image(pictures, null="black"),
        "text": vd.encode_text(captions),
        "melody": encode_melody(melodies),
    }


@torch.inference_mode()
def print_figures(vd: VersatileDiffusion, data: CaptionedPictures, count: int) -> None:
    """Print, for up to `count` trained and as many held-out pairs, what each flow gets right."""
    book = write_songbook(data.names, len(data.styles))
    latents = torch.cat([vd.image_vae.encode(chunk) for chunk in data.pixels.split(64)])
    for part, pool in (("trained", data.train), ("held out", data.held_out)):
        own = pool[torch.linspace(0, len(pool) - 1, min(count, len(pool))).long()]
        captions = [data.captions[i] for i in own]
        given = make_contexts(vd, data.pixels[own], captions, book[data.name[own], data.style[own]])
        for kind, context in given.items():
            melodies = autoencoder.decode(sample(vd, "melody", context))
            name, style = recognise(melodies, book)
            exact = (melodies == book[data.name[own], data.style[own]]).float().mean()
            scores = {
                "image": measure_nearest(sample(vd, "image", context), latents, own),
                "text": measure_agreement(read(vd, sample(vd, "text", context)), captions),
                "melody": {
                    "name": compute_share(name == data.name[own]),
                    "style": compute_share(style == data.style[own]),
                    "tokens": round(float(exact), 3),
                },
            }
            for output, score in scores.items():
                print(f"{part} ({len(own)}): {kind} to {output}: {score}", flush=True)


@torch.inference_mode()
def show(vd: VersatileDiffusion, data: CaptionedPictures, things: list[int], out: Path) -> None:
    """Draw `out`/flows.png: what the nine flows make of each thing, a row per given kind; `out`/*.wav:
    melodies that were asked for in words."""
    book = write_songbook(data.names, len(data.styles))
    captions = [data.captions[i] for i in things]
    melodies = book[data.name[things], data.style[things]]
    given = {"image": data.pixels[things], "text": captions, "melody": melodies}
    rows, labels = [], []
    for kind, context in make_contexts(vd, data.pixels[things], captions, melodies).items():
        made = {
            "image": see(vd, sample(vd, "image", context)),
            "text": read(vd, sample(vd, "text", context)),
            "melody": autoencoder.decode(sample(vd, "melody", context)),
        }
        for i in range(len(things)):
            for output, values in {"given": given[kind], **made}.items():
                rows.append(draw_tile(kind if output == "given" else output, values[i]))
                labels.append(f"given: {kind}" if output == "given" else f"to {output}")
        if kind == "text":
            for caption, melody in zip(captions, made["melody"], strict=True):
                write_wav(out / f"{caption}.wav", melody)
    page = draw_sheet(
        torch.stack(rows), columns=4 * len(things), labels=labels, title="Three kinds, nine flows"
    )
    with write_whole(out / "flows.png") as file:
        to_pil(page)[0].save(file, "PNG")


def draw_tile(kind: str, value: Tensor | str, side: int = 192) -> Tensor:
    """Draw one thing as a picture [3, side, side]."""
    if kind != "text":
        picture = value if kind == "image" else draw_roll(value)
        return picture.repeat_interleave(side // picture.shape[1], 1).repeat_interleave(
            side // picture.shape[2], 2
        )
    page, letters = Image.new("RGB", (side, side), (242, 242, 242)), load_font(22)
    ImageDraw.Draw(page).multiline_text(
        (side / 2, side / 2),
        "\n".join(break_lines(value, letters, side - 20)),
        (38, 38, 42),
        letters,
        "mm",
        align="center",
    )
    return from_pil([page])[0]


def count_parameters(config: DiffuserConfig) -> tuple[int, int]:
    """Count how many parameters a diffuser of all flows has, and how many single-flow ones have together."""
    with torch.device("meta"):
        diffuser = Diffuser(config)
    count = {
        name: sum(p.numel() for p in diffuser.get_submodule(name).parameters())
        for name in ("time_embed", "data", "context")
    }
    shared, data, context = count.values()
    return sum(count.values()), len(config.data) * len(config.context) * shared + len(
        config.context
    ) * data + len(config.data) * context


def make_picture_config(count: int) -> DiffuserConfig:
    """Make the config of Versatile Diffusion with so many kinds, each as large as its pictures."""
    config, kinds = VDConfig().diffuser, range(count)
    return replace(
        config,
        data={f"{k}": config.data["image"] for k in kinds},
        context={f"{k}": config.context["image"] for k in kinds},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--count", type=int, default=76, help="pairs of each part; default: 76")
    parser.add_argument(
        "--show",
        nargs="+",
        default=["rocket, flat style", "fox, 3d style"],
        metavar="CAPTION",
        help="what is shown",
    )
    arguments = parser.parse_args()
    model, data = load([arguments.run / "melody.safetensors", MODEL]), CaptionedPictures.load(FOLDER)
    sizes = {
        "this model": model.config,
        "Versatile Diffusion v1.0": VDConfig(),
        "the same with melodies": extend(VDConfig()),
    }
    sizes = {title: config.diffuser for title, config in sizes.items()}
    for title, config in (
        sizes
        | {f"{count} kinds of pictures at full size": make_picture_config(count) for count in range(1, 6)}
    ).items():
        one, many = count_parameters(config)
        print(
            f"{title}: {one / 1e6:.1f} M parameters, single-flow models {many / 1e6:.1f} M together: "
            f"{many / one:.2f} times as many"
        )
    show(model, data, [data.captions.index(caption) for caption in arguments.show], arguments.run)
    print_figures(model, data, arguments.count)
