"""Runs a ComfyUI workflow file with this pack's nodes: without ComfyUI, on a running server, or in a checkout.

python run_workflow.py workflows/api/NAME.json --set "Prompt.text=a red apple, flat style" --seed 7 --output pictures
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from . import remote
from .launcher import launched
from .pack import PACKAGE, ROOT
from .server import Server


class Arguments(argparse.ArgumentParser):
    """A command line whose mistakes end as all others do: with one sentence and exit status 1."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help says what there is.")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Arguments(description="Run a workflow file with this pack's nodes: without ComfyUI, on a server, or in a checkout.")
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW.json", help="API format, or canvas format where it says enough")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="NODE: id or title; may be given often")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="where files are written (default: ./output)")
    parser.add_argument("--seed", type=int, metavar="N", help="sets every input called seed or noise_seed; --set wins")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--models", type=Path, metavar="DIR", help="folder with the model files (environment variable VD_MODELS)")
    where.add_argument("--server", metavar="URL", help="run it on this ComfyUI, such as 127.0.0.1:8188")
    where.add_argument(
        "--comfyui", type=Path, metavar="PATH",
        help="start this ComfyUI for it (its Python: COMFYUI_PYTHON, else its venv; its arguments: COMFYUI_ARGS, else --cpu without a GPU)",
    )  # fmt: skip
    parser.add_argument(
        "--wait", type=float, default=60, metavar="SECONDS", help="with --server: how long it may take to come back when it is lost"
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Runs the workflow where the command line says."""
    given = args.output, args.set, args.seed, ROOT / "workflows" / "input"
    if args.server is not None:
        remote.run_file(args.workflow, Server(args.server), *given, wait=args.wait)
    elif args.comfyui:
        with (
            tempfile.TemporaryDirectory(prefix="run_workflow_", ignore_cleanup_errors=True) as folder,
            launched(args.comfyui.expanduser().resolve(), ROOT, Path(folder)) as server,
        ):
            remote.run_file(args.workflow, server, *given, uploads="temp")
    else:
        from . import in_process  # imports torch, which the other two need not

        in_process.run_file(args.workflow, *given)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 with one sentence on stderr, 130 when interrupted."""
    try:
        args = arguments(argv)
        for path, option in ((args.output, "--output"), (args.models, "--models")):
            if path and path.exists() and not path.is_dir():
                raise NotADirectoryError(f"{option} {path} is a file, not a folder.")
        if args.models:
            if not args.models.exists():
                raise FileNotFoundError(f"--models {args.models} does not exist.")
            os.environ["VD_MODELS"] = str(args.models.resolve())
        if not args.workflow.is_file():
            raise FileNotFoundError(f"There is no workflow file {args.workflow}.")
        run(args)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(PACKAGE):
            raise
        return refuse(f"{error}; install what {ROOT / 'requirements.txt'} names.")
    except (ValueError, OSError) as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def refuse(sentence: str) -> int:
    """The sentence on one line of stderr; the exit status."""
    print(" ".join(sentence.split()), file=sys.stderr)
    return 1


def run_as_script() -> int:
    """`main` for the command line of a terminal: what was started is stopped on SIGTERM and SIGHUP too."""
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character must not stop the run
    for end in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if signal.getsignal(end) is signal.SIG_DFL:
            signal.signal(end, lambda number, _: sys.exit(128 + number))
    return main()
