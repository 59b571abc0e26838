"""A bulk job on Ray Data: parts go to workers, each with a model; what is done is never done again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..datasets.read import fingerprints
from ..datasets.rows import Row
from ..files import write_whole
from ..runs import find_differences, hash_files, lock_folder, read_record
from .parts import part_path, read_errors, write_part
from .reconstruct import Reconstruction
from .tasks import Settings

log = logging.getLogger(__name__)

INSTALL = 'Bulk jobs run on Ray Data: pip install "ray[data]".'


@dataclass(frozen=True)
class Job:
    """The rows of an input, in parts of `batch` rows, and the folder that gets a file for each part.

    record: what the results are made from, as in the folder's job.json. left_out: what of the input is no
        row.
    """

    rows: Sequence[Row]
    out: Path
    settings: Settings | Reconstruction
    batch: int
    record: dict = field(default_factory=dict)
    left_out: str = ""

    def part(self, number: int) -> Sequence[Row]:
        """Return the rows of one part."""
        return self.rows[number * self.batch : (number + 1) * self.batch]

    def missing(self) -> list[int]:
        """List the parts that are not there yet."""
        count = -(-len(self.rows) // self.batch)
        task = self.settings.task
        return [number for number in range(count) if not part_path(self.out, task, number).exists()]


class Worker:
    """What runs in each process: Ray Data makes one per process and calls it with parts.

    threads: of the CPU, that it computes on.
    """

    def __init__(self, settings: Settings | Reconstruction, out: Path, batch: int, threads: int = 1):
        torch.set_num_threads(threads)
        self.out, self.batch, self.runner = out, batch, settings.make_runner()

    def __call__(self, batch: dict) -> dict:
        """Run and write parts, each a number and its rows as JSON.

        Returns how many rows each had, and why it cannot be written, or "".
        """
        counts, reasons = [], []
        for number, rows in zip(map(int, batch["part"]), map(json.loads, batch["rows"]), strict=True):
            results = self.runner([Row(*row) for row in rows])
            try:
                write_part(
                    part_path(self.out, self.runner.settings.task, number), results, number * self.batch
                )
                reasons.append("")
            except OSError as error:
                reasons.append(str(error))
            counts.append(len(results))
        return {"rows": counts, "error": reasons}


def open_job(
    source: Path,
    out: Path,
    settings: Settings | Reconstruction,
    batch: int,
    recursive: bool = False,
    accept_changes: bool = False,
) -> Job:
    """Open a new job, or the one in `out`, after reading all of the input once for its fingerprints.

    recursive:      take the subfolders of the input too.
    accept_changes: where settings, model or rows differ from those that the folder's results were made from,
                    delete the parts that they change, so that they are made anew, and write it into the
                    record.

    Raises ValueError for changes that are not accepted, spelled out, and for a folder that another process
    uses; OSError when nothing can be written there; and what `find_rows` raises.
    """
    if not 1 <= batch <= 65536:
        raise ValueError(f"A part has 1 to 65536 rows, got {batch}.")
    listing = settings.find_rows(source, recursive)
    hashes = list(fingerprints(listing.rows))
    inputs = "".join(
        json.dumps({"id": row.id, "sha256": found}) + "\n"
        for row, found in zip(listing.rows, hashes, strict=True)
    )
    record = {
        "rows": len(hashes),
        "batch": batch,
        "settings": json.loads(json.dumps(asdict(settings), default=repr)),
        "model_sha256": hash_files(settings.models),
        "inputs_sha256": hashlib.sha256(inputs.encode()).hexdigest()[:16],
    }
    job = Job(listing.rows, out, settings, batch, record, listing.summary())
    with lock_folder(out):
        if (out / "job.json").exists():
            before = read_record(out / "job.json")
            accepted = before.pop("accepted", [])
            if changes := find_changes(before, record, out, inputs):
                if not accept_changes:
                    raise ValueError(
                        f"{out} holds a job made from other things: {changes}. Go on with the same ones, "
                        "choose another folder, or give --accept-changes, which makes anew what they change."
                    )
                delete_changed(job, before, inputs)
                accepted = [*accepted, changes]
            record |= {"accepted": accepted} if accepted else {}
        for name, content in (("inputs.jsonl", inputs), ("job.json", json.dumps(record, indent=1))):
            with write_whole(out / name) as file:
                file.write(content.encode())
        listing.write_left_out(out)
    return job


def find_changes(before: dict, record: dict, out: Path, inputs: str) -> str:
    """Spell out what differs from the record of a folder, rows by their names; "" for nothing."""
    hashes = {before.pop("inputs_sha256", None), record["inputs_sha256"]}
    differences = find_differences(
        before, {key: value for key, value in record.items() if key != "inputs_sha256"}
    )
    if len(hashes) > 1:
        old, new = read_inputs(out), dict(map(read_input, inputs.splitlines()))
        words = {"gone": old.keys() - new.keys(), "new": new.keys() - old.keys()}
        words["changed"] = {name for name in old.keys() & new.keys() if old[name] != new[name]}
        for word, names in words.items():
            if names:
                few = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
                differences.append(f"{len(names)} {'row' if len(names) == 1 else 'rows'} {word} ({few})")
        differences += [] if any(words.values()) else ["rows in another order"]
    return "; ".join(differences)


def read_input(line: str) -> tuple[str, str]:
    """Read a line of inputs.jsonl: id and fingerprint."""
    entry = json.loads(line)
    return entry["id"], entry["sha256"]


def read_inputs(out: Path) -> dict[str, str]:
    """Read the fingerprints of a folder's rows, by their ids, in order; empty where they are lost."""
    try:
        return dict(map(read_input, (out / "inputs.jsonl").read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def delete_changed(job: Job, before: dict, inputs: str) -> None:
    """Delete the parts that changed settings, model, batch or rows would make otherwise."""
    alike = {key: before.get(key) for key in ("batch", "settings", "model_sha256")}
    old = (
        list(read_inputs(job.out).items())
        if not find_differences(alike, {key: job.record[key] for key in alike})
        else []
    )
    new = list(map(read_input, inputs.splitlines()))
    for path in job.out.glob("part-*"):
        first = int(path.stem.removeprefix("part-")) * job.batch
        part = slice(first, first + job.batch)
        if old[part] != new[part] or not new[part]:
            path.unlink()


def run(
    job: Job,
    workers: int = 1,
    gpus: float = 0,
    threads: int = 1,
    address: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Run what is missing of a job on `workers` processes; returns how many of all rows failed.

    errors.jsonl lists them.

    workers:  0 runs all in this process, without Ray.
    gpus:     share of a GPU for each worker.
    threads:  of the CPU for each worker; for small models many workers of one thread do more than few of
        many.
    address:  of a Ray cluster that sees input, output and model files under the same paths; None = this
        machine.
    progress: called with the number of rows whenever a part is done.

    Raises ValueError without Ray, for numbers out of range and for a folder that another process uses or
    changed, OSError when a part cannot be written, RuntimeError when the workers cannot run.
    """
    if not (0 <= workers <= 4096 and 1 <= threads <= 4096 and 0 <= gpus <= 64):
        raise ValueError(
            f"A job needs at least one worker with one thread, and 0 to 64 GPUs for each, got {workers} with "
            f"{threads}, and {gpus}."
        )
    with lock_folder(job.out):
        if read_record(job.out / "job.json") != job.record:
            raise ValueError(
                f"{job.out} has been given to another job since this one was opened: choose another folder."
            )
        missing = job.missing()
        if missing and workers == 0:
            run_here(job, missing, threads, progress)
        elif missing:
            on_ray(job, missing, workers, gpus, threads, address, progress)
        failed = [row for path in sorted(job.out.glob("part-*")) for row in read_errors(path)]
        with write_whole(job.out / "errors.jsonl") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in failed).encode())
    return len(failed)


def run_here(job: Job, missing: list[int], threads: int, progress: Callable[[int], None]) -> None:
    """Make the missing parts one after the other in this process."""
    worker = Worker(job.settings, job.out.resolve(), job.batch, threads)
    for number in missing:
        done = worker({"part": [number], "rows": [json.dumps(job.part(number))]})
        raise_error(done["error"][0])
        progress(done["rows"][0])


def raise_error(reason: str) -> None:
    """Raise OSError with the reason why a part could not be written; "" is none."""
    if reason:
        raise OSError(f"{reason} The same command then goes on.")


def on_ray(
    job: Job,
    missing: list[int],
    workers: int,
    gpus: float,
    threads: int,
    address: str | None,
    progress: Callable[[int], None],
) -> None:
    """Hand the missing parts out to workers."""
    # it would call home, and chat
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
    }
    try:
        import ray
    except ImportError as error:
        raise ValueError(INSTALL) from error
    where: dict[str, Any] = (
        {"num_cpus": workers * threads + 1, "include_dashboard": False} if address is None else {}
    )
    code = {} if address is None else {"py_modules": [str(Path(__file__).resolve().parents[1])]}
    ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, runtime_env=code, **where)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        parts = [{"part": number, "rows": json.dumps(job.part(number))} for number in missing]
        done = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
            Worker,
            fn_constructor_args=(job.settings, job.out.resolve(), job.batch, threads),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts))),
            batch_size=1,
            num_cpus=threads,
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            raise_error(row["error"])
            progress(int(row["rows"]))
    finally:
        ray.shutdown()
