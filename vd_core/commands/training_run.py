"""What the commands `train` and `distill` share: how a run is chosen and shown."""

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

from ..choices import FLOWS, PRECISIONS, RECIPES
from ..placement import choose_device
from ..training import distill as distillation
from ..training import distributed
from ..training import settings as training
from ..training.prepared import Flow

Settings = TypeVar("Settings", training.Settings, distillation.Settings)


def read_device(options: argparse.Namespace) -> str:
    """Return the device that the options ask for."""
    return choose_device(options.device)


def choose_precision(options: argparse.Namespace) -> torch.dtype:
    """Return the type of the matrix products that the options ask for."""
    name = options.precision or ("bf16" if read_device(options).startswith("cuda") else "fp32")
    return getattr(torch, PRECISIONS[name])


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
    device = distributed.start(read_device(options))
    try:
        with report_progress() as progress:
            chosen = replace(settings, device=str(device))
            return train(options.data, options.model, options.out, chosen, progress)
    finally:
        distributed.end()


@contextmanager
def report_progress() -> Iterator[Callable[[int, int, float], None]]:
    """Log from the first process, with a progress bar below; yield what to call after each step.

    An interrupt gets a sentence that says how to go on.
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
            raise KeyboardInterrupt("Stopped: the same command goes on from the last checkpoint.") from None
