"""The command line of `run_workflow.py`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from vd_core.foreign import printable

from . import graph, remote
from .errors import JobError, WorkflowError
from .launcher import launch
from .limit import TimedOut, limit_time
from .pack import PACKAGE, ROOT
from .prepare import Changes, prepare
from .results import Results
from .server import Server, Unreachable

DESCRIPTION = "Run a workflow file with this pack's nodes: without ComfyUI, on a server, or in a checkout."
EXAMPLES = """examples:
  run_workflow.py workflows/api/text-to-image.json --set Prompt.text="red apple, 3d style" --seed 7
  run_workflow.py workflows/api/text-to-image.json --list            what --set can change
  run_workflow.py picture.png --output again                         a picture that carries its workflow
  run_workflow.py workflows/api/image-variation.json --set Picture.image=cat.png  a picture of yours
  run_workflow.py workflows/api/text-to-image.json --set 1.model=vd-four-flow-v1-0-fp16.pth
  run_workflow.py flow.json --server http://127.0.0.1:8188 --json | jq -r .file
  run_workflow.py flow.json --comfyui ~/ComfyUI --timeout 600

exit status: 0, 2 for what is wrong with the request, 3 for a ComfyUI that cannot be reached or started,
4 for a job that failed or took too long, 130 when interrupted; the reason is the last line on stderr.
"""
LONGEST = 2000  # characters of a sentence
BAD_REQUEST, UNREACHABLE, FAILED, INTERRUPTED = 2, 3, 4, 130


class Arguments(argparse.ArgumentParser):
    """A command line whose mistakes end as all others do: with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise WorkflowError(f"{message}; --help says what there is.")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Raises WorkflowError."""
    parser = Arguments(
        prog="run_workflow.py", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    workflow = "JSON in API or canvas format, or a PNG that carries its workflow"
    add("workflow", type=Path, metavar="WORKFLOW", help=workflow)
    assignments = "NODE: id or title; may be given often"
    add("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help=assignments)
    listing = "say what --set can change, with types and choices, and run nothing"
    add("--list", action="store_true", help=listing)
    add("--seed", type=int, metavar="N", help="sets every input called seed or noise_seed; --set wins")
    add("--input", type=Path, metavar="DIR", help="where pictures and contexts are looked for first")
    output = "where files are written (default: ./output)"
    add("--output", type=Path, default=Path("output"), metavar="DIR", help=output)
    records = "print one JSON object per result on stdout: node, title, file, set, texts"
    add("--json", action="store_true", help=records)
    add("--timeout", type=float, metavar="SECONDS", help="give up when it takes longer in all")
    where = parser.add_mutually_exclusive_group().add_argument
    models = "folder with the model files (environment variable VD_MODELS)"
    where("--models", type=Path, metavar="DIR", help=models)
    where("--server", metavar="URL", help="run it on this ComfyUI, such as 127.0.0.1:8188")
    comfyui = (
        "start this ComfyUI for it (its Python: COMFYUI_PYTHON, else its venv; its arguments: COMFYUI_ARGS, "
        "else --cpu without a GPU)"
    )
    where("--comfyui", type=Path, metavar="PATH", help=comfyui)
    wait = "with --server: how long it may take to come back when it is lost (default: 60)"
    add("--wait", type=float, default=60, metavar="SECONDS", help=wait)
    args = parser.parse_args(argv)
    for option, seconds in (("--timeout", args.timeout), ("--wait", args.wait)):
        if seconds is not None and not 0 <= seconds <= 1e9:
            raise WorkflowError(f"{option} takes a number of seconds from 0, not {seconds}.")
    return args


def check_paths(args: argparse.Namespace) -> None:
    """Raise WorkflowError for files and folders that are not there, or are the other kind."""
    if not args.workflow.is_file():
        raise WorkflowError(f"There is no workflow file {args.workflow}.")
    for path, option, needed in (
        (args.output, "--output", False), (args.models, "--models", True), (args.input, "--input", True),
    ):  # fmt: skip
        if path and path.exists() and not path.is_dir():
            raise WorkflowError(f"{option} {path} is a file, not a folder.")
        if path and needed and not path.exists():
            raise WorkflowError(f"{option} {path} does not exist.")


def run(args: argparse.Namespace, results: Results) -> None:
    """Run the workflow where the command line says, or list its inputs."""
    own = args.workflow.resolve().parent
    folders = [*filter(None, [args.input]), Path(), own, ROOT / "workflows" / "input"]
    changes = Changes(args.set, args.seed, args.input)
    if args.server is None and not args.comfyui:
        from . import in_process  # imports torch, which the other two need not

        if args.list:
            list_inputs(args, graph.describe_classes(in_process.load_classes()))
        else:
            in_process.run_file(args.workflow, results, changes, folders)
        return
    with open_server(args) as (server, uploads, wait):
        if args.list:
            list_inputs(args, remote.read_catalogue(server)[1])
        else:
            remote.run_file(args.workflow, server, results, changes, folders, uploads=uploads, wait=wait)


@contextmanager
def open_server(args: argparse.Namespace) -> Iterator[tuple[Server, str, float]]:
    """Yield the server that --server or --comfyui means, its folder for uploads, and the seconds to wait."""
    if args.server is not None:
        yield Server(args.server), "input", args.wait
        return
    with (
        tempfile.TemporaryDirectory(prefix="run_workflow_", ignore_cleanup_errors=True) as folder,
        launch(args.comfyui.expanduser().resolve(), ROOT, Path(folder)) as server,
    ):
        yield server, "temp", 0


def list_inputs(args: argparse.Namespace, catalogue: graph.Catalogue) -> None:
    """Print what --set can change: a line each, or a JSON object."""
    prompt, _ = prepare(args.workflow, catalogue, Changes(args.set, args.seed))
    for about in graph.describe_inputs(prompt, catalogue):
        if args.json:
            print(json.dumps(about))
            continue
        value = "(linked)" if about.get("linked") else printable(repr(about["value"]), 60)
        choices = [printable(str(choice), 40) for choice in about.get("choices", ())]
        span = f"{about['min']} to {about['max']}" if {"min", "max"} <= about.keys() else ""
        known = ", ".join(choices[:20]) + ", …" * (len(choices) > 20) or span
        name = f"{about['title']}.{printable(about['input'])}={value}"
        print(f"{name}  {about['type']}{f' ({known})' if known else ''}, node {printable(about['node'])}")


@contextmanager
def name_folders(**folders: Path | None) -> Iterator[None]:
    """Set environment variables, by which the pack finds folders, for the time of a run."""
    before = {name: os.environ.get(name) for name in folders}
    os.environ.update({name: str(folder.resolve()) for name, folder in folders.items() if folder})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. What goes wrong is one sentence on stderr."""
    results = None
    try:
        args = parse(argv)
        results = Results(args.output, args.json, args.set)
        check_paths(args)
        with name_folders(VD_MODELS=args.models, VD_INPUT=args.input), limit_time(args.timeout):
            run(args, results)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(PACKAGE):
            raise
        return refuse(f"{error}; install what {ROOT / 'requirements.txt'} names.", FAILED, results)
    except Unreachable as error:
        return refuse(str(error), UNREACHABLE, results)
    except (JobError, OSError) as error:
        return refuse(str(error), FAILED, results)
    except ValueError as error:
        return refuse(str(error), BAD_REQUEST, results)
    except TimedOut as error:
        return refuse(str(error), FAILED, results)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def refuse(sentence: str, status: int, results: Results | None) -> int:
    """Print a sentence on one line of stderr -> the exit status."""
    line = printable(" ".join(sentence.split()), LONGEST)
    print(line, file=sys.stderr)
    if results is not None:
        results.show_failure(line, status)
    return status


def run_as_script() -> int:
    """Run `main` for a terminal: what was started is stopped on SIGTERM and SIGHUP too."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack a character
    for end in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if signal.getsignal(end) is signal.SIG_DFL:
            signal.signal(end, lambda number, _: sys.exit(128 + number))
    return main()
