"""`versatile-diffusion inspect`: say what model files hold."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    files = "weights file or diffusers folder; several are seen as one model"
    parser.add_argument("files", nargs="+", metavar="FILE", help=files)
    parser.add_argument("--json", action="store_true", help="print JSON")
