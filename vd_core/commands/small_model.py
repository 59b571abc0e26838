"""`versatile-diffusion small-model`: build a model like the embedded one."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..embedded import FOLDER


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    out = "folder of the run: checkpoints, logs, sample sheets, model.safetensors"
    add("out", type=Path, metavar="OUT_DIR", help=out)
    data = "pictures.webp and pictures.json; default: the embedded ones"
    add("--data", type=Path, default=FOLDER, metavar="DIR", help=data)
    steps = "of image_vae, clip, text_vae, diffuser, captioner; default: as the embedded model"
    add("--steps", nargs="+", default=[], metavar="STAGE=N", help=steps)


def run(options: argparse.Namespace) -> None:
    """Train all stages."""
    # Imported here: the other commands need nothing of the training.
    from ..training.dataset import CaptionedPictures
    from ..training.small_model import STEPS, train

    given = dict(entry.partition("=")[::2] for entry in options.steps)
    for stage, number in given.items():
        if stage not in STEPS or not number.isdecimal() or int(number) < 1:
            raise ValueError(
                f"--steps takes STAGE=N with a stage of {', '.join(STEPS)} and a number above 0, got "
                f"{stage}={number}."
            )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    steps = STEPS | {stage: int(number) for stage, number in given.items()}
    print(train(CaptionedPictures.load(options.data), options.out, steps))
