"""What both patterns share as programs: options, predictions row by row, and pictures written as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vd_core import to_pil
from vd_core.files import save_numbered

from ..models import add_model_options, load_model
from .metrics import describe
from .predictions import predict


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of a pattern."""
    add_model_options(parser)
    parser.add_argument("--rows", type=int, default=4, help="pictures to reconstruct; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="default: %(default)s"
    )
    return parser


def run(options: argparse.Namespace, reconstruct: Callable[..., Tensor]) -> None:
    """Reconstruct rows one by one, write them, and say how well they fit."""
    vd = load_model(options)
    given = predict(vd, options.rows)
    drawn = []
    for row in zip(given.images.split(1), given.texts.split(1), given.guesses.split(1), strict=True):
        drawn.append(reconstruct(vd, *row))
        picture = to_pil(drawn[-1])[0]
        print(
            save_numbered(options.out, "row", ".png", lambda file, picture=picture: picture.save(file, "png"))
        )
    print(describe(vd, torch.cat(drawn), given.seen))
