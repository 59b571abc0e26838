"""`versatile-diffusion small-model`: build a model like the embedded one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...embedded import FOLDER


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    out = "folder of the run: checkpoints, logs, sample sheets, model.safetensors"
    add("out", type=Path, metavar="OUT_DIR", help=out)
    data = "pictures.webp and pictures.json; default: the embedded ones"
    add("--data", type=Path, default=FOLDER, metavar="DIR", help=data)
    steps = "of image_vae, clip, text_vae, diffuser, captioner; default: as the embedded model"
    add("--steps", nargs="+", default=[], metavar="STAGE=N", help=steps)
