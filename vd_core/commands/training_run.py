"""What the commands `train` and `distill` share: the options of a run, and how it is shown."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..placement import choose_device
from ..training import distill as distillation
from ..training import distributed
from ..training import settings as training
from ..training.prepared import Flow
from ..training.settings import RECIPES

FLOWS = {f"{kind}_to_{data}": (data, kind) for data, kind in RECIPES["four"]}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
Settings = TypeVar("Settings", training.Settings, distillation.Settings)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run lies, where it is computed and what is shown of it."""
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="RUN",
        help="folder of the run; a stopped run goes on from there",
    )
    parser.add_argument("--caption", metavar="TEXT", help="caption of pictures that have none")
    parser.add_argument("--seed", type=int, default=0)
    where = parser.add_argument_group("where it is trained, and what is shown")
    where.add_argument(
        "--device",
        default=choose_device(),
        help="cpu, cuda or mps; default: %(default)s",
    )
    where.add_argument(
        "--precision", choices=PRECISIONS, help="of the matrix products; default: bf16 with cuda, else fp32"
    )
    where.add_argument(
        "--every",
        type=int,
        default=500,
        metavar="N",
        help="steps between checkpoints and sample sheets; default: 500",
    )
    where.add_argument(
        "--sheet", type=int, default=4, metavar="N", help="samples on a sheet; 0: no sheets; default: 4"
    )


def choose_precision(options: argparse.Namespace) -> torch.dtype:
    """Return the type of the matrix products that the options ask for."""
    return PRECISIONS[options.precision or ("bf16" if options.device.startswith("cuda") else "fp32")]


def parse_flows(entry: str) -> tuple[Flow, ...]:
    """Return the flows of one stage. Raises ValueError for unknown ones."""
    if entry in RECIPES:
        return RECIPES[entry]
    names = entry.split("+")
    if strangers := [name for name in names if name not in FLOWS]:
        raise ValueError(
            f"There is no flow {strangers[0]}: choose of {', '.join([*RECIPES, *FLOWS])}, several of these "
            "joined by +."
        )
    return tuple(FLOWS[name] for name in names)


def run_training(
    options: argparse.Namespace, settings: Settings, train: Callable[..., Path | None]
) -> Path | None:
    """Run a training with a progress bar -> what it wrote; None in all processes but the first."""
    device = distributed.start(options.device)
    try:
        with report_progress() as progress:
            chosen = replace(settings, device=str(device))
            return train(options.data, options.model, options.out, chosen, progress)
    finally:
        distributed.end()


@contextmanager
def report_progress() -> Iterator[Callable[[int, int, float], None]]:
    """Log from the first process, with a progress bar below; yield what to call after each step.

    Raises ValueError with one sentence in place of KeyboardInterrupt.
    """
    is_first = distributed.is_first()
    level = logging.INFO if is_first else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    with logging_redirect_tqdm(), tqdm(unit=" steps", disable=None if is_first else True) as bar:

        def update(step: int, steps: int, left: float) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        try:
            yield update
        except KeyboardInterrupt:
            raise ValueError("Stopped: the same command goes on from the last checkpoint.") from None
