"""`versatile-diffusion evaluate`: the figures of the embedded model's card."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import torch

from ..checkpoints.load import load
from ..embedded import FOLDER, MODEL


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("model", nargs="?", default=MODEL, metavar="FILE", help="default: the embedded model")
    data = "pictures.webp and pictures.json; default: the embedded ones"
    add("--data", type=Path, default=FOLDER, metavar="DIR", help=data)
    judge = "folder of the judge, a classifier that scores what is drawn; trained there first when empty"
    add("--judge", type=Path, metavar="DIR", help=judge)
    add("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Print the figures of the model card."""
    # Imported here: the other commands need nothing of the training.
    from ..training.dataset import CaptionedPictures
    from ..training.evaluate import evaluate, write_table
    from ..training.judge import train_judge

    model, data = load(options.model), CaptionedPictures.load(options.data)
    if options.judge:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    judge = train_judge(data, options.judge) if options.judge else None

    def report(part: str) -> None:
        print(f"measuring: {part} …", file=sys.stderr)

    with torch.inference_mode():
        figures = evaluate(model, data, judge, progress=report)
    print(json.dumps(figures, indent=1) if options.json else write_table(figures))
