"""How sharp the embedded model draws and how near to real pictures, on trained and on held-out pairs:
`python -m tools.figures.sharpness JUDGE [--model FILE] [--seeds N]`.

JUDGE: the folder of the classifier that scores, as `python -m vd_core evaluate --judge` trains it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import SAMPLING, judge_pictures, see
from vd_core.training.image_vae import measure_psnr
from vd_core.training.judge import Judge, train_judge

from .few_steps import draw
from .picture_quality import (
    PLAIN,
    compute_features,
    frechet_distance,
    measure_hue_error,
    measure_sharpness,
    summarize,
)


@torch.inference_mode()
def measure(
    model: VersatileDiffusion, judge: Judge, data: CaptionedPictures, own: Tensor, seeds: int
) -> Iterator[str]:
    """Write a line for the autoencoder and one for each flow, from the captions and the pictures `own`.

    Shares of the real pictures' Laplacian energy are of held-out / trained ones, Fréchet distances to all of
    them, PSNR and judged names and styles of held-out ones; ± is the standard deviation over the seeds.
    """
    real, held_out = data.pixels[own], torch.isin(own, data.held_out)
    energy, features = measure_sharpness(real), compute_features(judge, real)

    def compare(drawn: list[Tensor]) -> str:
        parts = [
            summarize([float(measure_sharpness(d)[part].mean() / energy[part].mean()) for d in drawn])
            for part in (held_out, ~held_out)
        ]
        distances = [frechet_distance(compute_features(judge, pictures), features) for pictures in drawn]
        return f"Laplacian energy {' / '.join(parts)}, Fréchet {summarize(distances)}"

    decoded = see(model, torch.cat([model.image_vae.encode(chunk) for chunk in real.split(64)]))
    psnr = measure_psnr(model.image_vae, real[held_out]).mean()
    yield f"autoencoder: PSNR {psnr:.2f} dB, {compare([decoded])}"
    for flow, context in (
        ("text to image", model.encode_text([data.captions[i] for i in own])),
        ("image variation", model.encode_image(real)),
    ):
        drawn = [draw(model, context, seed, SAMPLING) for seed in range(seeds)]
        scores = [judge_pictures(judge, pictures[held_out], data, own[held_out]) for pictures in drawn]
        named, styled = (summarize([score[key] for score in scores]) for key in ("name", "style"))
        yield f"{flow}: {compare(drawn)}, name {named}, style {styled}"


@torch.inference_mode()
def measure_hues(model: VersatileDiffusion, data: CaptionedPictures, seeds: int) -> str:
    """Measure how far the hues of drawn things of one colour are from the real ones, lines apart, which have
    none."""
    plain = torch.isin(data.name, torch.tensor([data.names.index(name) for name in PLAIN]))
    own = (plain & (data.style != data.styles.index("line"))).nonzero()[:, 0]
    context = model.encode_text([data.captions[i] for i in own])
    errors = [
        float(measure_hue_error(draw(model, context, seed, SAMPLING), data.pixels[own]).mean())
        for seed in range(seeds)
    ]
    return f"error of hue, {len(PLAIN)} things of one colour: {summarize(errors)} degrees"


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judge", type=Path, metavar="JUDGE")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE", help="another one of its layout")
    parser.add_argument("--seeds", type=int, default=4, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, data = load(options.model), CaptionedPictures.load(FOLDER)
    judge = train_judge(data, options.judge)
    trained = data.train[torch.linspace(0, len(data.train) - 1, 100).long()]
    for line in measure(model, judge, data, torch.cat([trained, data.held_out]), options.seeds):
        print(line, flush=True)
    print(measure_hues(model, data, options.seeds))


if __name__ == "__main__":
    main()
