"""`versatile-diffusion download`: fetch the published files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import REPOSITORY


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    to = (
        "folder for the official single files and the vocabularies, such as "
        "ComfyUI/models/versatile_diffusion; default: the Hugging Face cache gets the pipeline, for "
        f"load({REPOSITORY!r}), which cannot write texts"
    )
    add("--to", type=Path, metavar="DIR", help=to)
    add("--precision", choices=("float16", "float32"), default="float16", help="of the diffuser with --to")
    repository = "of the pipeline; default: %(default)s"
    add("--repository", default=REPOSITORY, metavar="OWNER/NAME", help=repository)
    add("--endpoint", metavar="URL", help="of a hub or a mirror; default: the official one")
    add("--dry-run", action="store_true", help="say what would be fetched, and fetch nothing")
