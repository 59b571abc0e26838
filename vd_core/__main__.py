"""The command `versatile-diffusion`, the same as `python -m vd_core`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .foreign import printable

LONGEST = 2000  # characters of a sentence
INTERRUPTED = 130  # as shells report it

# What each does. Each is two modules: `commands.options.NAME` has add_options(parser) and imports next to
# nothing, so that help comes at once; `commands.NAME` has run(options) -> its exit status, None for 0.
COMMANDS = {
    "sample": "draw pictures, or write texts, from a prompt, a picture or both",
    "reconstruct": "draw pictures from predicted CLIP tokens (brain decoding), the best of several; resumes",
    "bulk": "caption, vary, draw or embed many pictures or texts, on Ray Data; resumes",
    "inspect": "say what files are and what is in them",
    "convert": "write files of any known layout as one safetensors file",
    "download": "fetch the published model files; resumes",
    "train": "train a model, or a LoRA for it, on your own pictures with captions; resumes",
    "distill": "make a model, or a LoRA for it, that samples in few steps without guidance; resumes",
    "small-model": "build a small model like the embedded one from nothing, stage by stage; resumes",
    "evaluate": "measure the embedded model on trained and held-out pictures",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 with one sentence on stderr for what goes wrong, or the
    command's own.
    """
    text = "Versatile Diffusion on the command line."
    parser = argparse.ArgumentParser(prog="versatile-diffusion", description=text)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        for name, does in COMMANDS.items():
            subparser = commands.add_parser(name, help=does, description=does)
            if given[:1] == [name]:
                module = name.replace("-", "_")
                import_module(f".commands.options.{module}", __package__).add_options(subparser)
                subparser.set_defaults(module=module)
        options = parser.parse_args(given)
        return import_module(f".commands.{options.module}", __package__).run(options) or 0
    except (ValueError, OSError) as error:
        # Names of files and keys are foreign: they may hold what a terminal obeys.
        print(f"error: {printable(describe(error), LONGEST)}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        from .memory import is_out_of_memory  # not before: help comes without torch

        if not is_out_of_memory(error):
            raise
        advice = "choose fewer or smaller pictures, a smaller batch, or another device"
        print(f"error: There is not enough memory: {advice}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"error: {str(error) or 'It was stopped.'}", file=sys.stderr)
        return INTERRUPTED


def describe(error: ValueError | OSError) -> str:
    """Say in one sentence what went wrong; the system's own errors get one."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror}."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
