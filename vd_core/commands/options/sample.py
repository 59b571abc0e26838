"""`versatile-diffusion sample`: pictures or texts from prompts and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import DTYPES
from ...sampling.samplers import SAMPLERS
from .jobs import DTYPE_HELP


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "prompt", nargs="?", default="", help="in words; may be left out where there is a --picture"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a picture as context")
    parser.add_argument(
        "--ratio", type=float, default=0.5, help="share of the prompt beside a picture; default: %(default)s"
    )
    parser.add_argument("--write", action="store_true", help="write texts in place of pictures")
    parser.add_argument("--count", type=int, default=4, help="how many; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="FILE",
        help="files, or OWNER/NAME of the hub; default: the embedded one",
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the pictures; default: the model's"
    )
    parser.add_argument("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, help="guidance scale; default: 7.5, of small models 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps …; default: a GPU where there is one")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=DTYPE_HELP)
