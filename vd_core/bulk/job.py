"""A bulk job on Ray Data: parts are handed out to workers, each with a model of its own; what is done is never done again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..checkpoints.write import replacing
from .parts import errors, part_path, write_part
from .rows import Row, find_rows
from .tasks import READS, Runner, Settings

INSTALL = 'Bulk jobs run on Ray Data: pip install "ray[data]".'


@dataclass(frozen=True)
class Job:
    """The rows of an input, in parts of `batch` rows, and the folder that gets a file for each part."""

    rows: tuple[Row, ...]
    out: Path
    settings: Settings
    batch: int

    def part(self, number: int) -> tuple[Row, ...]:
        """The rows of one part."""
        return self.rows[number * self.batch : (number + 1) * self.batch]

    def missing(self) -> list[int]:
        """The parts that are not there yet."""
        count = -(-len(self.rows) // self.batch)
        return [number for number in range(count) if not part_path(self.out, self.settings.task, number).exists()]


class Worker:
    """What runs in each process: Ray Data makes one per process and calls it with parts. It computes on `threads` threads of the CPU."""

    def __init__(self, settings: Settings, out: Path, batch: int, threads: int = 1):
        torch.set_num_threads(threads)
        self.out, self.batch, self.runner = out, batch, Runner(settings)

    def __call__(self, batch: dict) -> dict:
        """Run and write parts, each a number and its rows as JSON -> how many rows each had, and why it cannot be written, or ""."""
        counts, errors = [], []
        for number, rows in zip(map(int, batch["part"]), map(json.loads, batch["rows"]), strict=True):
            results = self.runner([Row(name, Path(path), at) for name, path, at in rows])
            try:
                write_part(part_path(self.out, self.runner.settings.task, number), results, number * self.batch)
                errors.append("")
            except OSError as error:
                errors.append(str(error))
            counts.append(len(results))
        return {"rows": counts, "error": errors}


def open_job(source: Path, out: Path, settings: Settings, batch: int) -> Job:
    """A new job, or the one that `out` already holds.

    Raises ValueError when `out` holds a job with other settings or another input: its parts would not fit together; OSError when nothing
    can be written there; and what `find_rows` raises.
    """
    if batch < 1:
        raise ValueError(f"A part has at least one row, got {batch}.")
    job = Job(tuple(find_rows(source, READS[settings.task])), out, settings, batch)
    names = hashlib.sha256("\n".join(row.id for row in job.rows).encode()).hexdigest()
    card = {"rows": len(job.rows), "rows_sha256": names, "batch": batch, "settings": json.loads(json.dumps(asdict(settings)))}
    path = out / "job.json"
    if path.exists():
        before = card_of(path)
        changed = [key for key in card if before.get(key) != card[key]]
        if changed:
            raise ValueError(f"{out} holds a job with other {', '.join(changed)}: go on with the same ones, or choose another folder.")
    else:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(card, indent=1).encode())
    return job


def card_of(path: Path) -> dict:
    """What job.json says. Raises ValueError for a file that is none."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        raise ValueError(f"{path} is damaged, so nobody knows what job it is of: choose another folder.")
    return card


def run(
    job: Job,
    workers: int = 1,
    gpus: float = 0,
    threads: int = 1,
    address: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Run what is missing of a job on `workers` processes; returns how many of all rows failed, which `errors.jsonl` lists.

    gpus:     share of a GPU for each worker.
    threads:  of the CPU for each worker; for small models many workers of one thread do more than few of many.
    address:  of a Ray cluster that sees the input, the output and the model files under the same paths; None = this machine.
    progress: called with the number of rows whenever a part is done.

    Raises ValueError without Ray and for less than one worker or thread, OSError when a part cannot be written, RuntimeError when the
    workers cannot run.
    """
    if min(workers, threads) < 1:
        raise ValueError(f"A job needs at least one worker with one thread, got {workers} with {threads}.")
    missing = job.missing()
    if missing:
        on_ray(job, missing, workers, gpus, threads, address, progress)
    for leftover in job.out.glob(".part-*"):  # of workers that were killed
        leftover.unlink()
    failed = [row for path in sorted(job.out.glob("part-*")) for row in errors(path)]
    with replacing(job.out / "errors.jsonl") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in failed).encode())
    return len(failed)


def on_ray(
    job: Job, missing: list[int], workers: int, gpus: float, threads: int, address: str | None, progress: Callable[[int], None]
) -> None:
    """Hand the missing parts out."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}  # it would call home, and chat
    try:
        import ray
    except ImportError as error:
        raise ValueError(INSTALL) from error
    where = {"num_cpus": workers * threads + 1, "include_dashboard": False} if address is None else {}
    code = {} if address is None else {"py_modules": [str(Path(__file__).resolve().parents[1])]}
    ray.init(address or "local", logging_level="ERROR", log_to_driver=False, runtime_env=code, **where)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        parts = [
            {"part": number, "rows": json.dumps([(r.id, str(r.path.resolve()), r.at) for r in job.part(number)])} for number in missing
        ]
        done = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
            Worker,
            fn_constructor_args=(job.settings, job.out.resolve(), job.batch, threads),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts))),
            batch_size=1,
            num_cpus=threads,
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            if row["error"]:
                raise OSError(f"{row['error']} The same command then goes on.")
            progress(int(row["rows"]))
    finally:
        ray.shutdown()
