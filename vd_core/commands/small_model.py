"""`versatile-diffusion small-model`: build a model like the embedded one."""

from __future__ import annotations

import argparse
import logging

from ..training.dataset import CaptionedPictures
from ..training.small_model import STEPS, train


def run(options: argparse.Namespace) -> None:
    """Train all stages."""
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
