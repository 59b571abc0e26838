"""`python -m vd_core distill`: make a model, or a LoRA for it, that samples in few large steps."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import FLOWS, METHODS
from .runs import add_run_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("model", nargs="+", metavar="MODEL", help="files of the model that teaches")
    data = "pictures with captions, as `train` takes them"
    add("--data", type=Path, required=True, metavar="DATA", help=data)
    add("--steps", type=int, default=4, metavar="N", help="large steps that the result takes; default: 4")
    add("--method", choices=METHODS, default="ddgan", help="an adversary, or consistency; default: ddgan")
    flows = f"flows joined by +, of {', '.join(FLOWS)}, or four"
    add("--flows", default="text_to_image", metavar="FLOWS", help=flows)
    add("--cfg", type=float, help="guidance that is folded in; default: 7.5, of small models 2")
    add("--lora", type=int, metavar="RANK", help="train a LoRA of this rank, not the weights themselves")
    extract = "train the weights, and write the LoRA of this rank that comes nearest to them too"
    add("--extract", type=int, metavar="RANK", help=extract)
    add("--iterations", type=int, default=3000, metavar="N", help="of training; default: 3000")
    add("--batch", type=int, default=16, help="samples of each flow in one iteration; default: 16")
    add("--lr", type=float, help="learning rate; default: 1e-5, of small models 2e-4")
    teacher = "of the teacher's data in ddgan's loss; default: 1"
    add("--teacher", type=float, default=1.0, metavar="WEIGHT", help=teacher)
    add("--ema", type=float, default=0.999, help="decay of the averaged weights; default: 0.999")
    add("--size", type=int, metavar="PIXELS", help="side of the pictures; default: that of the model")
    add_run_options(parser)
