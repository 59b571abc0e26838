"""Runs a ComfyUI workflow file with this pack's nodes, without ComfyUI.

    python run_workflow.py workflows/api/NAME.json --set "Prompt.text=a red apple, flat style" --seed 7 --output pictures
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
PACKAGE = "versatile_diffusion_pack"  # ComfyUI too imports packs under a name of its own making


class Arguments(argparse.ArgumentParser):
    """A command line whose mistakes end as all others do: with one sentence and exit status 1."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help says what there is.")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Arguments(description="Run a workflow file with this pack's nodes, without ComfyUI.")
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW.json", help="API format, or canvas format where it says enough")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="NODE: id or title; may be given often")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="where files are written (default: ./output)")
    parser.add_argument("--seed", type=int, metavar="N", help="sets every input called seed or noise_seed; --set wins")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder with the model files (environment variable VD_MODELS)")
    return parser.parse_args(argv)


def load_pack(root: Path = ROOT, name: str = PACKAGE) -> ModuleType:
    """The pack in a folder, imported as ComfyUI imports it: from its __init__.py, under a name that no other module has."""
    spec = importlib.util.spec_from_file_location(name, root / "__init__.py", submodule_search_locations=[str(root)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


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
        pack = load_pack()
        runner = importlib.import_module(f"{PACKAGE}.nodes.host.runner")
        pictures = ROOT / "workflows" / "input"
        runner.run_file(args.workflow, pack.NODE_CLASS_MAPPINGS, args.output, args.set, args.seed, pictures)
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


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character must not stop the run
    sys.exit(main())
