"""The command `versatile-diffusion`, the same as `python -m vd_core`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .foreign import printable

LONGEST = 2000  # characters of a sentence
INTERRUPTED = 130  # as shells report it

# Each is a module in `commands` with HELP, add_options(parser) and run(options) -> exit status or None.
COMMANDS = (
    "sample",
    "reconstruct",
    "bulk",
    "inspect",
    "convert",
    "download",
    "train",
    "distill",
    "small-model",
    "evaluate",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 with one sentence on stderr for what goes wrong, or the
    command's own.
    """
    text = "Versatile Diffusion on the command line."
    parser = argparse.ArgumentParser(prog="versatile-diffusion", description=text)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    try:
        for name in COMMANDS:
            command = import_module(f".commands.{name.replace('-', '_')}", __package__)
            subparser = commands.add_parser(name, help=command.HELP, description=command.HELP)
            command.add_options(subparser)
            subparser.set_defaults(run=command.run)
        options = parser.parse_args(arguments)
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        # Names of files and keys are foreign: they may hold what a terminal obeys.
        print(f"error: {printable(describe(error), LONGEST)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: It was stopped.", file=sys.stderr)
        return INTERRUPTED


def describe(error: ValueError | OSError) -> str:
    """Say in one sentence what went wrong; the system's own errors get one."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror}."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
