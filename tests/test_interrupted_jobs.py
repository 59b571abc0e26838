"""Jobs that are started, killed at any change of their folder, resumed, given other inputs, met by a second
one, and run out of room, in any order.

What ends well has what an undisturbed job makes; all else is a sentence.

VD_JOBS=50 pytest tests/test_interrupted_jobs.py tries so many orders of each, others in every run.
"""

import io
import json
import os
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from interrupted import Child, Ending, limit_files, signal_at_change
from made_up_nodes import CLASSES, painting
from PIL import Image
from trainings import CAPTIONS

from runner import in_process
from runner.command import main as run_workflow
from vd_core.__main__ import main

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, settings, strategies  # noqa: E402
from hypothesis.stateful import (  # noqa: E402
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked and limited")
ROUNDS = int(os.environ.get("VD_JOBS", 0))
CHANGES = strategies.integers(1, 40)  # of its folder that a job makes: at which it is killed
ROOM = strategies.sampled_from([0, 60, 900, 20_000])  # bytes that a file may have


# Commands: inputs of so many rows, each one of a few, and what is made of them


def write_prompts(folder: Path, rows: tuple[int, ...]) -> Path:
    """Return a list for a bulk job."""
    path = folder / "prompts.txt"
    path.write_text("".join(f"{CAPTIONS[row]}\n" for row in rows))
    return path


def write_tokens(folder: Path, rows: tuple[int, ...]) -> Path:
    """Tokens to reconstruct pictures from, as many and as wide as those of the tiny model's CLIP."""
    path = folder / "tokens.npy"
    tokens = [np.random.default_rng(row).standard_normal((17, 40)) for row in rows]
    np.save(path, np.stack([row / np.linalg.norm(row[0]) for row in tokens]).astype(np.float32))
    return path


def write_pictures(folder: Path, rows: tuple[int, ...]) -> Path:
    """Pictures with captions to train on."""
    place = folder / "pictures"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for number, row in enumerate(rows):
        Image.new("RGB", (32, 32), (80 * row, 200, 40)).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(CAPTIONS[row])
    return place


def bulk(source: Path, out: Path, seed: int, model: Path) -> list[str]:
    """Draw prompts, a part for each."""
    options = ["--workers", "0", "--batch", "1", "--steps", "1", "--size", "32", "--seed", str(seed)]
    return ["bulk", "text-to-image", str(source), str(out), "--model", str(model), *options]


def reconstruct(source: Path, out: Path, seed: int, model: Path) -> list[str]:
    """Draw tokens."""
    options = ["--count", "1", "--steps", "2", "--size", "32", "--seed", str(seed)]
    return ["reconstruct", str(source), "--out", str(out), "--model", str(model), *options]


def train(source: Path, out: Path, seed: int, model: Path) -> list[str]:
    """Train a LoRA for three steps, each of which is saved."""
    options = ["--lora", "1", "--steps", "3", "--every", "1", "--sheet", "0", "--batch", "2", "--size", "32"]
    return ["train", str(source), "--out", str(out), "--model", str(model), *options, "--seed", str(seed)]


# command, how its inputs are written, and the files that it makes
COMMANDS: dict[str, tuple[Callable, Callable, tuple[str, ...]]] = {
    "bulk": (bulk, write_prompts, ("part-*", "errors.jsonl", "inputs.jsonl")),
    "reconstruct": (reconstruct, write_tokens, ("part-*", "errors.jsonl", "inputs.jsonl", "pictures/*")),
    "train": (train, write_pictures, ("lora.safetensors", "data/prepared.json", "data/contexts*")),
}
Origin = tuple[tuple[int, ...], int]  # what a folder was made from: rows, seed


class ResumableJob(RuleBasedStateMachine):
    """One folder of one command. `origins` are what it may have been made from, None: nothing yet."""

    def __init__(self, name: str, model: Path, known: dict[Origin, dict[str, bytes]]):
        super().__init__()
        self.command, self.write, self.patterns = COMMANDS[name]
        self.model, self.known = model, known
        self.folder = Path(tempfile.mkdtemp())
        self.out = self.folder / "out"
        self.rows, self.seed = (0, 1), 0
        self.origins: set[Origin | None] = {None}
        self.trains_on = False  # a training that has gone on with other things

    def teardown(self):
        try:
            self.accept()
            self.run()
        finally:
            shutil.rmtree(self.folder)

    @property
    def origin(self) -> Origin:
        """What a run would make the folder from."""
        return self.rows, self.seed

    def arguments(self, *options: str) -> list[str]:
        """Return the command line."""
        return [*self.command(self.write(self.folder, self.rows), self.out, self.seed, self.model), *options]

    def results(self, out: Path) -> dict[str, bytes]:
        """Return what a command has made, by name."""
        found = [path for pattern in self.patterns for path in out.glob(pattern)]
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}

    def undisturbed(self) -> dict[str, bytes]:
        """Return what a run in an empty folder makes of the inputs as they are."""
        if self.origin not in self.known:
            source = self.write(self.folder, self.rows)
            with tempfile.TemporaryDirectory(dir=self.folder) as whole:
                ending = Child(main, self.command(source, Path(whole), self.seed, self.model)).end()
                assert ending.status == 0, ending.said
                self.known[self.origin] = self.results(Path(whole))
        return self.known[self.origin]

    def check(self, ending: Ending, accepts: bool = False) -> None:
        """Check that a job that ended well made what an undisturbed one makes, and of nothing else unsaid."""
        if ending.status == 0:
            assert accepts or self.origins & {None, self.origin}, "changes were taken without a word"
            self.trains_on |= self.command is train and not self.origins <= {None, self.origin}
            if not self.trains_on:
                assert self.results(self.out) == self.undisturbed()
            assert not list(self.out.rglob(".vd_*")), "temporary files are left"
            self.origins = {self.origin}
        elif accepts or None in self.origins:  # it may have begun
            self.origins.add(self.origin)
        if ending.status:
            assert ending.status == 1 and ending.sentence.startswith("error: "), ending.said
            assert ending.sentence.endswith(".") and "Traceback" not in ending.said, ending.said

    @rule()
    def run(self):
        before = self.results(self.out)
        ending = Child(main, self.arguments()).end()
        self.check(ending)
        if ending.status:
            assert self.origins != {self.origin}, ending.said
            assert "there it was" in ending.said or " row" in ending.said, ending.said  # spelled out
            after = self.results(self.out)
            changed = [name for name in before | after if before.get(name) != after.get(name)]
            # What is prepared for a training may have been given up by an accepted change that was stopped.
            assert all(name.startswith("data/") for name in changed), f"a refused run changed {changed}"

    @rule()
    def accept(self):
        ending = Child(main, self.arguments("--accept-changes")).end()
        assert ending.status == 0, ending.said
        self.check(ending, accepts=True)

    @rule(change=CHANGES, accepts=strategies.booleans())
    def kill(self, change, accepts):
        options = ["--accept-changes"] * accepts
        harm = signal_at_change(self.out, change, signal.SIGKILL)
        self.check(Child(main, self.arguments(*options), harm).end(), accepts)

    @rule(room=ROOM, accepts=strategies.booleans())
    def run_out_of_room(self, room, accepts):
        arguments = self.arguments(*["--accept-changes"] * accepts)
        self.check(Child(main, arguments, limit_files(room)).end(), accepts)

    @rule(change=CHANGES, seed=strategies.integers(0, 1))
    def meet_another(self, change, seed):
        """Run a second job to its end while the first one waits before a change."""
        mine = self.seed
        first = Child(main, self.arguments(), signal_at_change(self.out, change, signal.SIGSTOP))
        first.wait_until_it_stops()
        self.seed = seed
        second = Child(main, self.arguments()).end()
        origins, self.seed = self.origins, mine
        if None in origins:
            self.origins = origins | {(self.rows, seed), (self.rows, mine)}
        for ending in (second, first.end()):
            assert ending.status in (0, 1) and "Traceback" not in ending.said, ending.said
            if ending.status:
                words = ("in use by another run", "given to another job", "other things", "another run:")
                assert any(word in ending.sentence for word in words), ending.said

    @rule(number=strategies.integers(0, 2), content=strategies.integers(0, 2))
    def change_a_row(self, number, content):
        rows = list(self.rows)
        rows[number % len(rows)] = content
        self.rows = tuple(rows)

    @rule(content=strategies.integers(0, 2))
    @precondition(lambda self: len(self.rows) < 3)
    def add_a_row(self, content):
        self.rows = (*self.rows, content)

    @rule()
    @precondition(lambda self: len(self.rows) > 1)
    def drop_a_row(self):
        self.rows = self.rows[1:]

    @rule(seed=strategies.integers(0, 1))
    def change_the_seed(self, seed):
        self.seed = seed


class Runs(RuleBasedStateMachine):
    """Runs of a workflow into one folder: each adds its picture, and what was there stays as it was."""

    def __init__(self, contents: dict[int, bytes]):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.out = self.folder / "out"
        self.contents, self.kept = contents, {}

    def teardown(self):
        try:
            self.run(0)
        finally:
            shutil.rmtree(self.folder)

    def start(self, level: int, before: Callable[[], None] = lambda: None) -> Child:
        """Start a run that draws a picture of one brightness."""
        flow = self.folder / f"{level}.json"
        flow.write_text(json.dumps(painting(level=level / 8)))
        return Child(run_workflow, [str(flow), "--output", str(self.out)], before)

    def check(self, ending: Ending, *levels: int) -> None:
        """Check that what was there is there, what came is whole, and every path that was printed exists."""
        found = {path.name: path.read_bytes() for path in self.out.glob("[!.]*")}
        assert found.items() >= self.kept.items(), "a file was lost or changed"
        for name in found.keys() - self.kept.keys():
            pixel = Image.open(io.BytesIO(found[name])).convert("L").getpixel((0, 0))
            assert pixel in [int(level / 8 * 255) for level in levels]
        assert ending.status in (None, 0, 4) and "Traceback" not in ending.said, ending.said
        printed = [line for line in ending.said.splitlines() if line.endswith(".png")]
        assert all(Path(path).is_file() for path in printed) and (ending.status != 0 or printed)
        self.kept = found

    @rule(level=strategies.integers(0, 8))
    def run(self, level):
        before = len(self.kept)
        self.check(self.start(level).end(), level)
        assert len(self.kept) == before + 1 and not list(self.out.glob(".vd_*"))

    @rule(level=strategies.integers(0, 8), change=strategies.integers(1, 8))
    def kill(self, level, change):
        self.check(self.start(level, signal_at_change(self.out, change, signal.SIGKILL)).end(), level)

    @rule(level=strategies.integers(0, 8), room=ROOM)
    def run_out_of_room(self, level, room):
        self.check(self.start(level, limit_files(room)).end(), level)

    @rule(levels=strategies.tuples(strategies.integers(0, 8), strategies.integers(0, 8)), change=CHANGES)
    def meet_another(self, levels, change):
        first = self.start(levels[0], signal_at_change(self.out, change % 8, signal.SIGSTOP))
        first.wait_until_it_stops()
        before = len(self.kept)
        second = self.start(levels[1]).end()
        assert second.status == 0, second.said
        self.check(first.end(), *levels)
        assert len(self.kept) == before + 2


def try_orders(machine: Callable[[], RuleBasedStateMachine], rounds: int, steps: int) -> None:
    """Run a machine through so many orders of its rules: the same ones, or others with VD_JOBS."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=ROUNDS or rounds,
            stateful_step_count=20 if ROUNDS else steps,
            deadline=None,
            database=None,
            derandomize=not ROUNDS,
            phases=(Phase.generate,),  # explanations would trace every line, which is slow
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_job_in_any_order(name, models):
    try_orders(partial(ResumableJob, name, models / "tiny.safetensors", {}), rounds=1, steps=5)


def test_a_workflow_in_any_order(monkeypatch):
    pack = types.SimpleNamespace(NODE_CLASS_MAPPINGS=CLASSES)
    monkeypatch.setattr(in_process, "load_pack", lambda: pack)
    try_orders(partial(Runs, {}), rounds=3, steps=6)
