"""Work that is killed at random moments: what was written before is whole, and what resumes ends as if
nothing had happened."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from runner.command import main
from runner.core_nodes import SaveImage
from vd_core.bulk import job as jobs
from vd_core.bulk.tasks import Settings
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.write import write_safetensors
from vd_core.embedded import MODEL
from vd_core.sampling.options import Sampling
from vd_core.training.loop import fit

from .forked import Result, Table, run_forked

ROOT = Path(__file__).resolve().parents[2]
KILLS = 70  # of what is done in a moment
LONG_KILLS = 40  # of what takes seconds
RAY_KILLS = 6  # of whole bulk jobs with their processes
STEPS = 40
PROMPTS = "red apple, 3d style\nbanana, flat style\n" * 8


def run_and_kill(work: Callable[[], object], seconds: float) -> None:
    """Run work in a child, and kills it after so many seconds."""
    child = os.fork()
    if not child:
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def save_again(path: Path) -> None:
    """Save one version of a file after the other."""
    for version in range(100_000):
        write_safetensors(
            path, {name: torch.full((500, 200), float(version)) for name in "abc"}, {"format": "pt"}
        )


def check_saved(path: Path) -> Result:
    """Try the file is one of the versions."""
    values = {float(value) for tensor in load_file(path).values() for value in tensor.unique()}
    return Result("survived" if len(values) == 1 else "wrong", str(values))


def train(folder: Path) -> nn.Module:
    """A small training with dropout, which resumes."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 8))

    def losses(model: nn.Module, generator: torch.Generator):
        yield "loss", (model(torch.randn(16, 8, generator=generator)) - 1).square().mean()

    return fit(module, losses, folder, steps=STEPS, lr=1e-3, trained_on={"data": "x"}, save_every=3)


def check_resumed(folder: Path, known: dict[str, torch.Tensor]) -> Result:
    """Try the rest of the training gives what one without a break gives."""
    state = train(folder).state_dict()
    return Result(
        "survived" if all(torch.equal(state[key], tensor) for key, tensor in known.items()) else "wrong",
        "other weights",
    )


def draw(folder: Path) -> None:
    """Pictures, one after the other."""
    save = SaveImage()
    while True:
        save.execute(torch.rand(1, 256, 256, 3), "picture", {}, {}, str(folder))


def check_drawn(folder: Path) -> Result:
    """Try all pictures are whole."""
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    return Result("survived")


def convert_again(path: Path) -> None:
    """The embedded model in one precision after the other."""
    while True:
        for dtype in (torch.bfloat16, torch.float16):
            convert([MODEL], path, dtype=dtype, overwrite=True)


def hash_files(folder: Path, pattern: str) -> dict[str, str]:
    """The contents of files by their names."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(pattern))}


def check_known(folder: Path, pattern: str, whole: set[str]) -> Result:
    """Try all files that have their final name are some of those that an undisturbed run writes."""
    strange = [name for name, content in hash_files(folder, pattern).items() if content not in whole]
    return Result("wrong", f"{strange} are not whole") if strange else Result("survived")


def make_in_bulk(source: Path, out: Path) -> None:
    """Make a bulk job, or what is left of it, with its worker in this process."""
    job = jobs.open_job(source, out, Settings("text-to-image", sampling=Sampling("dpmpp_2m", 1, 2.0)), 1)
    worker = jobs.Worker(job.settings, out, job.batch)
    for number in job.missing():
        worker.make(number, job.part(number))


def start_bulk(source: Path, out: Path) -> subprocess.Popen:
    """Start `python -m vd_core bulk` in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "vd_core",
        "bulk",
        "text-to-image",
        str(source),
        str(out),
        "--batch",
        "1",
        "--steps",
        "1",
    ]
    return subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def run_again(folder: Path) -> None:
    """Run a workflow with pictures and texts, time and again."""
    while True:
        run_once(folder)


def run_once(folder: Path) -> None:
    """Run the quick start in few steps."""
    main([str(ROOT / "workflows/api/quick-start.json"), "--output", str(folder), "--set", "Draw.steps=3"])


def kill_long_work(folder: Path, rng: random.Random, count: int, table: Table) -> None:
    """Kills of conversions, queued jobs and bulk jobs."""
    (folder / "job").mkdir()
    for dtype in (torch.bfloat16, torch.float16):
        convert([MODEL], folder / f"{dtype}.known.safetensors", dtype=dtype)
    models = set(hash_files(folder, "*.known.safetensors").values())
    shutil.copy(folder / "torch.float16.known.safetensors", folder / "model.safetensors")
    run_forked(lambda: run_once(folder / "undisturbed") or Result("survived"))
    results = set(hash_files(folder / "undisturbed", "*.*").values())
    for number in range(count):
        run_and_kill(partial(convert_again, folder / "model.safetensors"), rng.uniform(0, 1.5))
        table.add("killed while converting", str(number), check_known(folder, "model.safetensors", models))
        run_and_kill(partial(run_again, folder / "job"), rng.uniform(0, 5))
        table.add("killed in a workflow", str(number), check_known(folder / "job", "[!.]*", results))
    (source := folder / "prompts.txt").write_text(PROMPTS)
    make_in_bulk(source, folder / "whole")
    whole = hash_files(folder / "whole", "part-*")
    for number in range(count):
        out = folder / f"bulk{number // 4}"  # four kills for each job
        run_and_kill(partial(make_in_bulk, source, out), rng.uniform(0.1, 0.8))
        table.add("killed in a bulk job", str(number), check_known(out, "part-*", set(whole.values())))
        if number % 4 == 3:
            make_in_bulk(source, out)
            same = hash_files(out, "part-*") == whole
            table.add("bulk jobs resumed", out.name, Result("survived" if same else "wrong", "other parts"))
    for number in range(round(RAY_KILLS * count / LONG_KILLS) if importlib.util.find_spec("ray") else 0):
        process, out = start_bulk(source, folder / "ray"), folder / "ray"
        time.sleep(rng.uniform(5, 25))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        table.add(
            "bulk jobs on Ray killed with all their processes",
            str(number),
            check_known(out, "part-*", set(whole.values())),
        )
    if (folder / "ray").exists():
        start_bulk(source, folder / "ray").wait()
        same = hash_files(folder / "ray", "part-*") == whole
        table.add("bulk jobs resumed", "ray", Result("survived" if same else "wrong", "other parts"))


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Kills in turn."""
    rng, count = random.Random(seed), max(2, round(KILLS * share))
    known = train(folder / "whole").state_dict()
    path, pictures = folder / "model.safetensors", folder / "pictures"
    pictures.mkdir()
    write_safetensors(path, {name: torch.zeros(500, 200) for name in "abc"}, {"format": "pt"})
    for number in range(count):
        run_and_kill(partial(save_again, path), rng.uniform(0, 0.15))
        table.add("killed while saving", str(number), run_forked(partial(check_saved, path)))
        place = folder / f"training{number}"
        run_and_kill(partial(train, place), rng.uniform(0, 0.6))
        table.add(
            "killed while training, resumed", str(number), run_forked(partial(check_resumed, place, known))
        )
        run_and_kill(partial(draw, pictures), rng.uniform(0, 0.15))
        table.add("killed while pictures are saved", str(number), run_forked(partial(check_drawn, pictures)))
    kill_long_work(folder, rng, max(1, round(LONG_KILLS * share)), table)
