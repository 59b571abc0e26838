"""What both patterns share as programs: options, predictions row by row, and pictures written as files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vd_core import MODEL, load, to_pil
from vd_core.choices import DTYPES
from vd_core.diffuser.precision import choose_dtype
from vd_core.files import save_numbered
from vd_core.placement import choose_device

from .metrics import describe
from .predictions import predict


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of a pattern."""
    parser.add_argument(
        "--model", nargs="+", default=[MODEL], metavar="FILE", help="default: the embedded model"
    )
    parser.add_argument("--rows", type=int, default=4, help="pictures to reconstruct; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--device", default=choose_device())
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the weights; default: %(default)s"
    )
    return parser


def run(options: argparse.Namespace, reconstruct: Callable[..., Tensor]) -> None:
    """Reconstruct rows one by one, write them, and say how well they fit."""
    dtype = choose_dtype(options.dtype, options.device)
    vd = load(options.model, dtype=dtype, device=options.device)
    given = predict(vd, options.rows)
    drawn = []
    for row in zip(given.images.split(1), given.texts.split(1), given.guesses.split(1), strict=True):
        drawn.append(reconstruct(vd, *row))
        picture = to_pil(drawn[-1])[0]
        print(
            save_numbered(options.out, "row", ".png", lambda file, picture=picture: picture.save(file, "png"))
        )
    print(describe(vd, torch.cat(drawn), given.seen))
