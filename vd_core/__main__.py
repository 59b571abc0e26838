"""python -m vd_core {inspect, convert}: what a model file is, and one file out of several."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import torch

from .checkpoints.convert import convert
from .checkpoints.report import inspect, text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. What goes wrong is one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m vd_core", description="Versatile Diffusion on the command line.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_inspect(commands)
    add_convert(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def add_inspect(commands: argparse._SubParsersAction) -> None:
    """The command `inspect`."""
    parser = commands.add_parser("inspect", help="say what files are and what is in them")
    parser.add_argument("files", nargs="+", metavar="FILE", help="weights file or diffusers folder; several are seen as one model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_inspect)


def run_inspect(options: argparse.Namespace) -> None:
    """Print the report."""
    report = inspect(options.files)
    print(json.dumps(report, indent=1) if options.json else text(report))


def add_convert(commands: argparse._SubParsersAction) -> None:
    """The command `convert`."""
    parser = commands.add_parser("convert", help="write files of any known layout as one safetensors file")
    parser.add_argument("files", nargs="+", metavar="IN", help="weights files or diffusers folders that make up one model")
    parser.add_argument("out", metavar="OUT.safetensors")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), help="of the weights; default: as they are")
    parser.add_argument(
        "--vocabularies", metavar="DIR", help="folder with the vocabularies of the text autoencoder, to be put into the file"
    )
    parser.add_argument("--layout", choices=("vd_core", "official"), default="vd_core", help="names of the weights in OUT")
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> None:
    """Convert, and say what was written."""
    dtype = getattr(torch, options.dtype) if options.dtype else None
    written = convert(options.files, options.out, dtype=dtype, vocabularies=options.vocabularies, layout=options.layout)
    print(f"{options.out}: {', '.join(written)}")


if __name__ == "__main__":
    sys.exit(main())
