"""`versatile-diffusion download`: fetch the published files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import REPOSITORY


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="folder for the official single files and the vocabularies, such as "
        "ComfyUI/models/versatile_diffusion; default: the Hugging Face cache gets the pipeline, for "
        f"load({REPOSITORY!r}), which cannot write texts",
    )
    parser.add_argument(
        "--precision", choices=("float16", "float32"), default="float16", help="of the diffuser with --to"
    )
    parser.add_argument(
        "--repository", default=REPOSITORY, metavar="OWNER/NAME", help="of the pipeline; default: %(default)s"
    )
    parser.add_argument("--endpoint", metavar="URL", help="of a hub or a mirror; default: the official one")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, and fetch nothing")
