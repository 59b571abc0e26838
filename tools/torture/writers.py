"""Writers that meet each other, or what must not be replaced.

Nothing is lost, and nothing else is touched.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from runner.pack import ROOT
from vd_core.checkpoints.contexts import save_context
from vd_core.checkpoints.convert import convert
from vd_core.context import Context
from vd_core.embedded import MODEL
from vd_core.files import write_whole

from .forked import Result, Table, judge_error, run_forked

SECONDS = 1800  # on the clock, for all processes together: the machine may be busy

SAVE = """
import sys
from pathlib import Path
import torch
from runner.core_nodes import write_pictures
for number in range(int(sys.argv[2])):
    ui = write_pictures(torch.rand(1, 16, 16, 3), "art", sys.argv[1], {})
    print(Path(sys.argv[1]) / ui["images"][0]["filename"])
"""


def write_together(commands: list[list[str]], folder: Path, expected: int) -> Result:
    """Write processes that save into one folder at once: as many files as they print, each once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for command in commands]
    try:
        printed = [
            line for process in processes for line in process.communicate(timeout=SECONDS)[0].split("\n")
        ]
    except subprocess.TimeoutExpired:
        for process in processes:
            process.kill()
        return Result("hung", f"{SECONDS} s were not enough for {len(processes)} processes")
    paths = [Path(word) for word in printed if word.endswith((".png", ".txt"))]
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(paths) != expected or len(set(paths)) != expected or set(files) != set(paths):
        return Result("lost", f"{len(paths)} paths, {len(set(paths))} different, {len(files)} files")
    return Result("survived")


def run_at_once(folder: Path, count: int) -> Result:
    """So many `run_workflow.py` into one folder: each draws four pictures and writes two files of texts."""
    flow = str(ROOT / "workflows" / "api" / "text-to-image.json")
    command = [sys.executable, "run_workflow.py", flow, "--output", str(folder), "--set", "Sampler.steps=1"]
    return write_together([command] * count, folder, 4 * count)


def write(path: Path) -> None:
    """Write a file as bulk jobs, training and sheets do."""
    with write_whole(path) as file:
        file.write(b"new")


WRITERS: dict[str, Callable[[Path], object]] = {
    "convert": lambda path: convert([str(MODEL)], str(path)),
    "contexts": lambda path: save_context(path, Context("text", torch.randn(1, 7, 80))),
    "whole files": write,
}


def put(kind: str, path: Path) -> None:
    """Put something of a kind, which an ordinary user can make, where a file is to be written."""
    if kind == "link":
        path.symlink_to(path.with_name("aim"))
    elif kind == "link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    else:
        path.write_text("kept")
        path.chmod(0o444)


KINDS = ("link", "link to nothing", "folder", "pipe", "socket", "read-only file")


def try_to_write(writer: str, kind: str, folder: Path) -> Result:
    """Try a writer that meets something of a kind: one sentence, and everything is as before."""
    folder.mkdir()
    (folder / "aim").write_text("kept")
    put(kind, path := folder / "out.safetensors")
    before = {entry.name: entry.lstat() for entry in folder.iterdir()}
    try:
        WRITERS[writer](path)
        result = Result("wrong", "it was written")
    except Exception as error:
        result = judge_error(error, path.name)
    after = {entry.name: entry.lstat() for entry in folder.iterdir()}
    same = before.keys() == after.keys() and all(
        (before[name].st_ino, before[name].st_mode, before[name].st_mtime_ns)
        == (after[name].st_ino, after[name].st_mode, after[name].st_mtime_ns)
        for name in before
    )
    kept = same and (folder / "aim").read_text() == "kept"
    return result if kept else Result("lost", f"{before} -> {after}")


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Writers at once, and writers that meet what is not theirs."""
    for processes, each in ((2, max(5, round(100 * share))), (max(3, round(12 * share)), 3)):
        place = folder / f"{processes} processes"
        command = [sys.executable, "-c", SAVE, str(place), str(each)]
        result = write_together([command] * processes, place, processes * each)
        table.add("pictures saved at once", f"{processes} processes, {each} pictures each", result)
    runs = max(2, round(12 * share))
    table.add("run_workflow.py at once", f"{runs}", run_at_once(folder / "runs", runs))
    every = [(writer, kind) for writer in WRITERS for kind in KINDS]
    random.Random(seed).shuffle(every)
    for writer, kind in every[: max(len(KINDS), round(len(every) * share))]:
        place = folder / f"{writer} {kind}".replace(" ", "_")
        table.add(
            "what is never replaced",
            f"{writer}, {kind}",
            run_forked(partial(try_to_write, writer, kind, place)),
        )
