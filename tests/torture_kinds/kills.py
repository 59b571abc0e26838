"""Work that is killed at random moments: what was written before is whole, and a training goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from run_workflow import load_host
from vd_core.checkpoints.write import write_safetensors
from vd_core.training.loop import fit

from .forked import Result, Table, forked, sentence

KILLS = 70  # of each kind
STEPS = 40


def killed(work: Callable[[], object], seconds: float) -> None:
    """Runs work in a child, and kills it after so many seconds."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def save_again(path: Path) -> None:
    """One version of a file after the other."""
    for version in range(100_000):
        write_safetensors(path, {name: torch.full((500, 200), float(version)) for name in "abc"}, {"format": "pt"})


def saved(path: Path) -> Result:
    """The file is one of the versions."""
    values = {float(value) for tensor in load_file(path).values() for value in tensor.unique()}
    return Result("survived" if len(values) == 1 else "wrong", str(values))


def train(folder: Path) -> nn.Module:
    """A small training with dropout, which resumes."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 8))

    def losses(model: nn.Module, generator: torch.Generator):
        yield "loss", (model(torch.randn(16, 8, generator=generator)) - 1).square().mean()

    return fit(module, losses, folder, steps=STEPS, lr=1e-3, trained_on={"data": "x"}, save_every=3)


def resumed(folder: Path, known: dict[str, torch.Tensor]) -> Result:
    """The rest of the training gives what one without a break gives."""
    state = train(folder).state_dict()
    return Result("survived" if all(torch.equal(state[key], tensor) for key, tensor in known.items()) else "wrong", "other weights")


def draw(folder: Path) -> None:
    """Pictures, one after the other."""
    save = load_host("stand_ins").SaveImage()
    while True:
        save.execute(torch.rand(1, 256, 256, 3), "picture", {}, {}, str(folder))


def drawn(folder: Path) -> Result:
    """All pictures are whole."""
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    return Result("survived")


def full(folder: Path) -> Result:
    """A disk without room: a sentence, and nothing under the final name."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        load_host("stand_ins").SaveImage().execute(torch.rand(1, 256, 256, 3), "picture", {}, {}, str(folder))
    except OSError as error:
        return Result("wrong", "a part is left") if list(folder.iterdir()) else sentence(error, "picture")
    return Result("wrong", "written in spite of the limit")


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Kills in turn."""
    rng, count = random.Random(seed), max(2, round(KILLS * share))
    known = train(folder / "whole").state_dict()
    path, pictures = folder / "model.safetensors", folder / "pictures"
    pictures.mkdir()
    write_safetensors(path, {name: torch.zeros(500, 200) for name in "abc"}, {"format": "pt"})
    for number in range(count):
        killed(partial(save_again, path), rng.uniform(0, 0.15))
        table.add("killed while saving", str(number), forked(partial(saved, path)))
        place = folder / f"training{number}"
        killed(partial(train, place), rng.uniform(0, 0.6))
        table.add("killed while training, resumed", str(number), forked(partial(resumed, place, known)))
        killed(partial(draw, pictures), rng.uniform(0, 0.15))
        table.add("killed while pictures are saved", str(number), forked(partial(drawn, pictures)))
    (folder / "full").mkdir()
    table.add("disk full", "SaveImage", forked(partial(full, folder / "full")))
