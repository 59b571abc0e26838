"""`versatile-diffusion evaluate`: the figures of the embedded model's card."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...embedded import FOLDER, MODEL


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("model", nargs="?", default=MODEL, metavar="FILE", help="default: the embedded model")
    data = "pictures.webp and pictures.json; default: the embedded ones"
    add("--data", type=Path, default=FOLDER, metavar="DIR", help=data)
    judge = "folder of the judge, a classifier that scores what is drawn; trained there first when empty"
    add("--judge", type=Path, metavar="DIR", help=judge)
    add("--json", action="store_true", help="print JSON")
