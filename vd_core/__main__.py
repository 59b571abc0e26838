"""The command `versatile-diffusion`, the same as `python -m vd_core`: model files, samples, training, bulk jobs."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from .checkpoints.convert import convert
from .checkpoints.load import load
from .checkpoints.report import inspect, text
from .embedded import FOLDER, MODEL


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. What goes wrong is one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="versatile-diffusion", description="Versatile Diffusion on the command line.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_inspect(commands)
    add_convert(commands)
    add_train(commands)
    add_distill(commands)
    add_small_model(commands)
    add_evaluate(commands)
    add_bulk(commands)
    for name in ("sample", "reconstruct", "download"):
        add_command(commands, name)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        bare = isinstance(error, OSError) and error.errno is not None
        print(f"error: {error.filename or 'A file'} cannot be used: {error.strerror}." if bare else f"error: {error}", file=sys.stderr)
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
    parser.add_argument(
        "--layout",
        choices=("vd_core", "official", "stable_diffusion"),
        default="vd_core",
        help="names of the weights in OUT; a diffuser of Stable Diffusion 1 becomes one of Prompt-Free Diffusion by official, "
        "and again itself by stable_diffusion",
    )
    parser.add_argument(
        "--lora", nargs="+", default=[], metavar="FILE[=STRENGTH]", help="LoRAs to be added to the weights; strength: 1 by default"
    )
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> None:
    """Convert, and say what was written."""
    dtype = getattr(torch, options.dtype) if options.dtype else None
    loras = [with_strength(entry) for entry in options.lora]
    written = convert(options.files, options.out, dtype=dtype, vocabularies=options.vocabularies, layout=options.layout, loras=loras)
    print(f"{options.out}: {', '.join(written)}")


def with_strength(entry: str) -> tuple[str, float]:
    """FILE or FILE=STRENGTH."""
    path, _, strength = entry.rpartition("=")
    try:
        return (path, float(strength)) if path else (entry, 1.0)
    except ValueError:
        return entry, 1.0


def add_train(commands: argparse._SubParsersAction) -> None:
    """The command `train`."""
    # Imported here, as it is small; torch is there already.
    from .training.train_command import add_options

    text = "train a model, or a LoRA for it, on your own pictures with captions; resumes where it was stopped"
    parser = commands.add_parser("train", help=text, description=f"{text}. Under torchrun several processes train together.")
    add_options(parser)
    parser.set_defaults(run=run_train)


def run_train(options: argparse.Namespace) -> None:
    """Train."""
    from .training.train_command import run

    run(options)


def add_distill(commands: argparse._SubParsersAction) -> None:
    """The command `distill`."""
    from .commands import distill

    parser = commands.add_parser("distill", help=distill.HELP, description=distill.HELP)
    distill.add_options(parser)
    parser.set_defaults(run=distill.run)


def add_small_model(commands: argparse._SubParsersAction) -> None:
    """The command `small-model`."""
    parser = commands.add_parser("small-model", help="build a small model like the embedded one from nothing, stage by stage; resumes")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder of the run: checkpoints, logs, sample sheets, model.safetensors")
    parser.add_argument(
        "--data", type=Path, default=FOLDER, metavar="DIR", help="pictures.webp and pictures.json; default: the embedded ones"
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        default=[],
        metavar="STAGE=N",
        help="of image_vae, clip, text_vae, diffuser, captioner; default: as the embedded model",
    )
    parser.set_defaults(run=run_small_model)


def run_small_model(options: argparse.Namespace) -> None:
    """Train all stages."""
    # Imported here: the other commands need nothing of the training.
    from .training.dataset import CaptionedPictures
    from .training.small_model import STEPS, train

    given = dict(entry.partition("=")[::2] for entry in options.steps)
    for stage, number in given.items():
        if stage not in STEPS or not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--steps takes STAGE=N with a stage of {', '.join(STEPS)} and a number above 0, got {stage}={number}.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    steps = STEPS | {stage: int(number) for stage, number in given.items()}
    print(train(CaptionedPictures.load(options.data), options.out, steps))


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """The command `evaluate`."""
    parser = commands.add_parser("evaluate", help="measure the embedded model on trained and held-out pictures")
    parser.add_argument("model", nargs="?", default=MODEL, metavar="FILE", help="default: the embedded model")
    parser.add_argument(
        "--data", type=Path, default=FOLDER, metavar="DIR", help="pictures.webp and pictures.json; default: the embedded ones"
    )
    parser.add_argument(
        "--judge",
        type=Path,
        metavar="DIR",
        help="folder of the judge, a classifier that scores what is drawn; trained there first when empty",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print the figures of the model card."""
    from .training.dataset import CaptionedPictures
    from .training.evaluate import evaluate, table
    from .training.judge import train_judge

    model, data = load(options.model), CaptionedPictures.load(options.data)
    if options.judge:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    judge = train_judge(data, options.judge) if options.judge else None
    with torch.inference_mode():
        figures = evaluate(model, data, judge, progress=lambda part: print(f"measuring: {part} …", file=sys.stderr))
    print(json.dumps(figures, indent=1) if options.json else table(figures))


def add_bulk(commands: argparse._SubParsersAction) -> None:
    """The command `bulk`."""
    from .commands import bulk

    parser = commands.add_parser("bulk", help=bulk.HELP, description=bulk.HELP)
    bulk.add_options(parser)
    parser.set_defaults(run=bulk.run)


def add_command(commands: argparse._SubParsersAction, name: str) -> None:
    """Add a command that has a module of its own in `commands`."""
    command = import_module(f".commands.{name}", __package__)
    parser = commands.add_parser(name, help=command.HELP, description=command.HELP)
    command.add_options(parser)
    parser.set_defaults(run=command.run)


if __name__ == "__main__":
    sys.exit(main())
