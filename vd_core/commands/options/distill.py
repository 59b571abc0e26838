"""`python -m vd_core distill`: make a model, or a LoRA for it, that samples in few large steps."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import FLOWS, METHODS
from .runs import add_run_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("model", nargs="+", metavar="MODEL", help="files of the model that teaches")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DATA",
        help="pictures with captions, as `train` takes them",
    )
    parser.add_argument(
        "--steps", type=int, default=4, metavar="N", help="large steps that the result takes; default: 4"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="ddgan", help="an adversary, or consistency; default: ddgan"
    )
    parser.add_argument(
        "--flows",
        default="text_to_image",
        metavar="FLOWS",
        help=f"flows joined by +, of {', '.join(FLOWS)}, or four",
    )
    parser.add_argument(
        "--cfg",
        type=float,
        help="guidance that is folded in; default: 7.5, of small models 2",
    )
    parser.add_argument(
        "--lora", type=int, metavar="RANK", help="train a LoRA of this rank, not the weights themselves"
    )
    parser.add_argument(
        "--extract",
        type=int,
        metavar="RANK",
        help="train the weights, and write the LoRA of this rank that comes nearest to them too",
    )
    parser.add_argument(
        "--iterations", type=int, default=3000, metavar="N", help="of training; default: 3000"
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="samples of each flow in one iteration; default: 16"
    )
    parser.add_argument("--lr", type=float, help="learning rate; default: 1e-5, of small models 2e-4")
    parser.add_argument(
        "--teacher",
        type=float,
        default=1.0,
        metavar="WEIGHT",
        help="of the teacher's data in ddgan's loss; default: 1",
    )
    parser.add_argument(
        "--ema", type=float, default=0.999, help="decay of the averaged weights; default: 0.999"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures; default: that of the model",
    )
    add_run_options(parser)
