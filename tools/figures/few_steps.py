"""How well few steps draw, on the embedded model's held-out pairs:
`python -m tools.figures.few_steps JUDGE [ROW …] [--seeds N]`.

JUDGE: the folder of the classifier that scores, as `python -m vd_core evaluate --judge` trains it.
ROW:   SAMPLER:STEPS:CFG, or SAMPLER:STEPS:CFG:LORA with a LoRA file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora
from vd_core.context import Context
from vd_core.embedded import FEW_STEPS, FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import judge_pictures, take_rows
from vd_core.training.judge import Judge, train_judge

from .picture_quality import compute_features, frechet_distance, measure_seed_difference, summarize

ROWS = (
    *("dpmpp_2m:20:2", "dpmpp_2m:4:2", "dpmpp_2m:4:1", f"dpmpp_2m:4:1:{FEW_STEPS}"),
    *("ddgan:4:2", "ddgan:4:1", f"ddgan:4:1:{FEW_STEPS}"),
)
CHUNK = 76  # pictures drawn together


def read_row(row: str) -> tuple[Sampling, Path | None]:
    """Read what a row says: how to sample, and the LoRA."""
    sampler, steps, cfg, *lora = row.split(":", 3)
    return Sampling(sampler, int(steps), float(cfg)), Path(lora[0]) if lora else None


def draw(model: VersatileDiffusion, context: Context, seed: int, sampling: Sampling) -> Tensor:
    """Draw a picture for each row of a context."""
    shape = model.image_vae.encode(torch.zeros(1, 3, 64, 64)).shape[1:]
    pictures = []
    for rows in torch.arange(len(context.tokens)).split(CHUNK):
        noise = sample_noise(1000 * seed + int(rows[0]))
        latents = model.sample(
            "image", take_rows([context], rows), torch.zeros(len(rows), *shape), noise, sampling
        )
        pictures.append(model.image_vae.decode(latents))
    return torch.cat(pictures)


@torch.inference_mode()
def measure(row: str, judge: Judge, data: CaptionedPictures, own: Tensor, seeds: int) -> Iterator[str]:
    """Write a line for each flow, from the captions and the pictures `own`.

    Judged names and styles (mean and standard deviation over the seeds), the Fréchet distance to these
    pictures in the judge's features, the mean pixel difference between seeds, and pictures per second of CPU
    time, decoding included.
    """
    sampling, lora = read_row(row)
    model = load(MODEL)
    if lora is not None:
        apply_lora(model, lora)
    real = compute_features(judge, data.pixels[own])
    for flow, context in (
        ("text to image", model.encode_text([data.captions[i] for i in own])),
        ("image variation", model.encode_image(data.pixels[own])),
    ):
        start = time.process_time()
        pictures = [draw(model, context, seed, sampling) for seed in range(seeds)]
        seconds = time.process_time() - start
        scores = [judge_pictures(judge, drawn, data, own) for drawn in pictures]
        shares = [f"{key} {summarize([score[key] for score in scores])}" for key in ("name", "style")]
        distances = torch.tensor(
            [frechet_distance(compute_features(judge, drawn), real) for drawn in pictures]
        )
        differ = (
            f", seeds differ by {measure_seed_difference(torch.stack(pictures)):.3f}" if seeds > 1 else ""
        )
        yield (
            f"{row}, {flow}: {', '.join(shares)}, Fréchet {distances.mean():.2f}{differ}, "
            f"{seeds * len(own) / seconds:.1f} pictures per CPU second"
        )


def main() -> None:
    """Print the figures of every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judge", type=Path, metavar="JUDGE")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--seeds", type=int, default=4, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = CaptionedPictures.load(FOLDER)
    judge = train_judge(data, options.judge)
    for row in options.rows or ROWS:
        for line in measure(row, judge, data, data.held_out, options.seeds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
