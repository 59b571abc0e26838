"""Output folders on disks that are full or read-only: one sentence, nothing half written, pictures that were
made kept elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import re
import resource
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from runner.command import main
from vd_core import __main__ as commands
from vd_core.bulk import job as jobs
from vd_core.bulk.tasks import Settings
from vd_core.checkpoints.contexts import save_context
from vd_core.context import Context
from vd_core.datasets.find import find_rows
from vd_core.embedded import MODEL
from vd_core.sampling.options import Sampling
from vd_core.training.loop import fit

from .forked import Result, Table, judge_error, run_forked

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows" / "api"
NEW_NAMESPACE, PRIVATE, READ_ONLY = 0x20000, 1 << 18 | 1 << 14, 1 | 1 << 5  # of unshare(2) and mount(2)
SMALL = 16_384  # bytes: less than any result


def mount(folder: Path, read_only: bool) -> None:
    """A small disk of this process alone at a folder, with a file on it. Raises PermissionError for those who
    may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    calls = [
        lambda: libc.unshare(NEW_NAMESPACE),
        lambda: libc.mount(None, b"/", None, PRIVATE, None),
        lambda: libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={SMALL}".encode()),
    ]
    for call in calls:
        if call():
            raise PermissionError(ctypes.get_errno())
    (folder / "before.txt").write_text("what was there")
    if read_only and libc.mount(b"none", str(folder).encode(), b"tmpfs", READ_ONLY, None):
        raise PermissionError(ctypes.get_errno())


def limit_files(folder: Path) -> None:
    """No file may grow beyond some kilobytes, as under a quota; anybody may ask for that."""
    (folder / "before.txt").write_text("what was there")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL // 8, SMALL // 8))


DISKS: dict[str, Callable[[Path], None]] = {
    "full": partial(mount, read_only=False),
    "read-only": partial(mount, read_only=True),
    "limited": limit_files,
}


def run_workflow(name: str, folder: Path) -> str:
    """Run the last words of a workflow that runs in a moment."""
    prompt = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    few = [
        f"--set={key}.{name}={value}"
        for key, node in prompt.items()
        for name, value in {"steps": 1}.items()
        if name in node["inputs"]
    ]
    return run_for_last_words(main, [str(WORKFLOWS / f"{name}.json"), "--output", str(folder), *few])


def run_for_last_words(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """Run the last line that a command prints on stderr when it fails."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(arguments)
    return said.getvalue().strip().splitlines()[-1] if status else ""


def convert_model(folder: Path) -> str:
    """The last words of a conversion."""
    return run_for_last_words(commands.main, ["convert", str(MODEL), str(folder / "model.safetensors")])


def run_training(folder: Path) -> str:
    """Run what a training says that cannot save."""

    def losses(model: nn.Module, generator: torch.Generator):
        yield "loss", model(torch.randn(4, 200, generator=generator)).square().mean()

    return quote_error(
        lambda: fit(nn.Linear(200, 200), losses, folder, steps=3, lr=1e-3, trained_on={}, save_every=1)
    )


def run_bulk(folder: Path) -> str:
    """Run what a worker of a bulk job says that cannot write its part."""
    rows = folder.parent / "prompts.txt"
    job = jobs.Job(
        find_rows(rows).keep("text").rows,
        folder,
        Settings("text-to-image", size=256, sampling=Sampling("dpmpp_2m", 1)),
        1,
    )
    return quote_error(lambda: jobs.Worker(job.settings, folder, 1).make(0, job.part(0)))


def run_save_context(folder: Path) -> str:
    """Run what the node says that saves contexts."""
    return quote_error(
        lambda: save_context(folder / "context.safetensors", Context("text", torch.randn(9, 7, 80)))
    )


def quote_error(work: Callable[[], object]) -> str:
    """Return the sentence of an error."""
    try:
        work()
    except OSError as error:
        return str(error)
    return ""


WRITERS: dict[str, Callable[[Path], str]] = {
    "pictures": partial(run_workflow, "dual-context"),
    "pictures and texts": partial(run_workflow, "quick-start"),
    "contexts": run_save_context,
    "convert": convert_model,
    "train": run_training,
    "bulk": run_bulk,
}


def try_writer(write: Callable[[Path], str], prepare: Callable[[Path], None], folder: Path) -> Result:
    """Try one writer on one disk."""
    try:
        prepare(folder)
    except PermissionError as error:
        return Result("survived", f"not allowed here: {error}")
    tempfile.tempdir = str(folder.parent)
    said = write(folder)
    pictures = list(folder.glob("*.png"))
    whole = [path for path in folder.glob("*.txt") if path.read_text().endswith("\n")]
    left = {path.name for path in folder.iterdir()} - {
        "before.txt",
        "log.jsonl",
        ".lock",
        *(path.name for path in pictures + whole),
    }
    if not said or left or (folder / "before.txt").read_text() != "what was there":
        return Result("wrong", f"said {said!r}, left {left}")
    if kept := re.search(r"are kept in (\S+)\.(?: |$)", said):
        pictures += (found := list(Path(kept[1]).glob("*.png")))
        if len(found) != 4:
            return Result("lost", said)
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
    return judge_error(OSError(said), folder.name)


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Every writer on every disk."""
    (folder / "prompts.txt").write_text("red apple, 3d style\n")
    cases = [(disk, writer) for disk in DISKS for writer in WRITERS]
    for disk, writer in cases if share >= 0.02 else cases[:: len(WRITERS) + 1]:
        place = folder / f"{disk} disk, {writer}".replace(" ", "_").replace(",", "")
        place.mkdir()
        table.add(
            "full and read-only disks",
            f"{disk}, {writer}",
            run_forked(partial(try_writer, WRITERS[writer], DISKS[disk], place)),
        )
