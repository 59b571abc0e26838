"""The model that an example runs on: its options, and how it is loaded."""

from __future__ import annotations

import argparse

from vd_core import MODEL, VersatileDiffusion, load
from vd_core.choices import DTYPES
from vd_core.diffuser.precision import choose_dtype
from vd_core.placement import choose_device


def add_model_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add which files, where and in what precision; returns the parser."""
    add = parser.add_argument
    add("--model", nargs="+", default=[MODEL], metavar="FILE", help="default: the embedded model")
    add("--device", default=choose_device(), help="default: %(default)s")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights; default: %(default)s")
    return parser


def load_model(options: argparse.Namespace) -> VersatileDiffusion:
    """Load the model that the options name."""
    dtype = choose_dtype(options.dtype, options.device)
    return load(options.model, dtype=dtype, device=options.device)
