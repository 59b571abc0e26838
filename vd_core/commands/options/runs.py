"""What the options of `train` and `distill` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import PRECISIONS


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run lies, where it is computed and what is shown of it."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="RUN",
        help="folder of the run; a stopped run goes on from there",
    )
    parser.add_argument("--caption", metavar="TEXT", help="caption of pictures that have none")
    parser.add_argument("--seed", type=int, default=0)
    where = parser.add_argument_group("where it is trained, and what is shown")
    where.add_argument("--device", help="cpu, cuda or mps; default: cuda where there is one")
    where.add_argument(
        "--precision", choices=PRECISIONS, help="of the matrix products; default: bf16 with cuda, else fp32"
    )
    where.add_argument(
        "--every",
        type=int,
        default=500,
        metavar="N",
        help="steps between checkpoints and sample sheets; default: 500",
    )
    where.add_argument(
        "--sheet", type=int, default=4, metavar="N", help="samples on a sheet; 0: no sheets; default: 4"
    )
