"""`versatile-diffusion evaluate`: the figures of the embedded model's card."""

from __future__ import annotations

import argparse
import json
import logging
import sys

import torch

from ..checkpoints.load import load
from ..training.dataset import CaptionedPictures
from ..training.evaluate import evaluate, write_table
from ..training.judge import train_judge


def run(options: argparse.Namespace) -> None:
    """Print the figures of the model card."""
    model, data = load(options.model), CaptionedPictures.load(options.data)
    if options.judge:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    judge = train_judge(data, options.judge) if options.judge else None

    def report(part: str) -> None:
        print(f"measuring: {part} …", file=sys.stderr)

    with torch.inference_mode():
        figures = evaluate(model, data, judge, progress=report)
    print(json.dumps(figures, indent=1) if options.json else write_table(figures))
