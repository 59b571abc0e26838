"""What the options of `train` and `distill` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import PRECISIONS


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run lies, where it is computed and what is shown of it."""
    add = parser.add_argument
    out = "folder of the run; a stopped run goes on from there"
    add("--out", type=Path, required=True, metavar="RUN", help=out)
    add("--caption", metavar="TEXT", help="caption of pictures that have none")
    add("--seed", type=int, default=0)
    where = parser.add_argument_group("where it is trained, and what is shown").add_argument
    where("--device", help="cpu, cuda or mps; default: cuda where there is one")
    precision = "of the matrix products; default: bf16 with cuda, else fp32"
    where("--precision", choices=PRECISIONS, help=precision)
    every = "steps between checkpoints and sample sheets; default: 500"
    where("--every", type=int, default=500, metavar="N", help=every)
    where("--sheet", type=int, default=4, metavar="N", help="samples on a sheet; 0: no sheets; default: 4")
