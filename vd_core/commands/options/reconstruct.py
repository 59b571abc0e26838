"""`versatile-diffusion reconstruct`: pictures from predicted CLIP tokens."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import DTYPES, SPACINGS
from ...embedded import MODEL
from ...sampling.samplers import SAMPLERS
from .jobs import DTYPE_HELP, add_job_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes. The defaults are those of MindEye."""
    add = parser.add_argument
    tokens = "as CLIP's vision tower gives them: [rows, 257, 768], embedded model [rows, 65, 160]"
    add("tokens", type=Path, metavar="IMAGE_TOKENS.npy", help=tokens)
    texts = "those of captions: [rows, 77, 768], embedded model [rows, 32, 160]"
    add("--texts", type=Path, metavar="TOKENS.npy", help=texts)
    add(
        "--guesses", type=Path, metavar="DIR", help="a picture per row to start from, in order: x9 before x10"
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the job; pictures/ROW-I.png")
    add("--ratio", type=float, default=0.5, help="share of the texts; default: %(default)s")
    strength = "share of the steps that run from a guess; default: %(default)s"
    add("--strength", type=float, default=0.85, help=strength)
    add("--count", type=int, default=16, help="samples per row; default: %(default)s")
    add("--best", type=int, default=1, help="how many are kept; default: %(default)s")
    add("--normalise", action="store_true", help="divide each row by the norm of its first token")
    model = "files or OWNER/NAME of the hub; default: the embedded one"
    add("--model", nargs="+", default=[str(MODEL)], metavar="FILE", help=model)
    add("--dtype", choices=DTYPES, default="float32", help=DTYPE_HELP)
    add("--size", type=int, metavar="PIXELS", help="side of the pictures; default: the model's")
    add("--sampler", choices=SAMPLERS, default="unipc")
    add("--spacing", choices=SPACINGS, default="linspace", help="of the timesteps; default: %(default)s")
    add("--steps", type=int, default=20)
    add("--cfg", type=float, default=3.5, help="guidance scale; default: %(default)s")
    add("--seed", type=int, default=0)
    add_job_options(parser, batch=1, workers=0)
