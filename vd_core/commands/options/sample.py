"""`versatile-diffusion sample`: pictures or texts from prompts and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import DTYPES
from ...sampling.samplers import SAMPLERS
from .jobs import DTYPE_HELP


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("prompt", nargs="?", default="", help="in words; may be left out where there is a --picture")
    add("--picture", type=Path, metavar="FILE", help="a picture as context")
    add("--ratio", type=float, default=0.5, help="share of the prompt beside a picture; default: %(default)s")
    add("--write", action="store_true", help="write texts in place of pictures")
    add("--count", type=int, default=4, help="how many; default: %(default)s")
    add("--out", type=Path, default=Path("output"), metavar="DIR", help="default: %(default)s")
    model = "files, or OWNER/NAME of the hub; default: the embedded one"
    add("--model", nargs="+", metavar="FILE", help=model)
    add("--size", type=int, metavar="PIXELS", help="side of the pictures; default: the model's")
    add("--sampler", choices=SAMPLERS, default="dpmpp_2m")
    add("--steps", type=int, default=20)
    add("--cfg", type=float, help="guidance scale; default: 7.5, of small models 2")
    add("--seed", type=int, default=0)
    add("--device", help="cpu, cuda, cuda:1, mps …; default: a GPU where there is one")
    add("--dtype", choices=DTYPES, default="float32", help=DTYPE_HELP)
