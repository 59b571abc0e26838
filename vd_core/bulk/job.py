"""A bulk job on Ray Data: parts go to workers, each with a model; what is done is never done again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..datasets.rows import Row
from ..files import write_whole
from ..memory import is_out_of_memory
from ..runs import find_differences, hash_files, hash_rows, lock_folder, read_record, write_left_out
from .parts import CAPTIONS, find_parts, locate_part, read_errors, write_captions, write_part
from .reconstruct import Reconstruction, Reconstructor
from .tasks import Runner, Settings

log = logging.getLogger(__name__)

INSTALL = 'pip install ".[bulk]" in a clone, pip install "ray[data]" elsewhere'


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

    def paths(self) -> list[Path]:
        """List the files of all parts, in the order of their rows."""
        count = -(-len(self.rows) // self.batch)
        return [locate_part(self.out, self.settings.task, number) for number in range(count)]

    def missing(self) -> list[int]:
        """List the parts that are not there yet."""
        return [number for number, path in enumerate(self.paths()) if not path.exists()]


class Worker:
    """What runs in each process, with a model of its own.

    threads: of the CPU, that it computes on.
    device:  that the model is on; None = a GPU where there is one.
    """

    def __init__(
        self,
        settings: Settings | Reconstruction,
        out: Path,
        batch: int,
        threads: int = 1,
        device: str | None = None,
    ):
        torch.set_num_threads(threads)
        self.settings, self.out, self.batch, self.device = settings, out, batch, device

    @cached_property
    def runner(self) -> Runner | Reconstructor:
        """What makes results of rows, loaded with the first part."""
        return self.settings.make_runner(self.device)

    def make(self, number: int, rows: Sequence[Row]) -> None:
        """Make the part of a number from its rows, and write it.

        Raises OSError where it cannot be written, ValueError for a model that cannot be used, and where the
        memory does not suffice.
        """
        try:
            runner = self.runner
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError("There is not enough memory for the model: choose another device.") from error
        write_part(locate_part(self.out, self.settings.task, number), runner(rows), number * self.batch)

    def __call__(self, batch: dict) -> dict:
        """Make the part that Ray Data hands out, a number and rows as JSON: how many rows, and what went
        wrong.

        The latter travels as data: an exception would be buried in Ray's own.
        """
        (number,), rows = batch["part"], [Row(*row) for row in json.loads(batch["rows"][0])]
        try:
            self.make(int(number), rows)
        except (OSError, ValueError) as error:
            return {"rows": [len(rows)], "error": [str(error)]}
        return {"rows": [len(rows)], "error": [""]}


def open_job(
    source: Path,
    out: Path,
    settings: Settings | Reconstruction,
    batch: int,
    recursive: bool = False,
    accept_changes: bool = False,
    retry_failed: bool = False,
) -> Job:
    """Open a new job, or the one in `out`, after reading all of the input once for its fingerprints.

    recursive:      take the subfolders of the input too.
    accept_changes: where settings, model or rows differ from those that the folder's results were made from,
                    delete the parts that they change, so that they are made again, and write it into the
                    record.
    retry_failed:   delete the parts with rows that failed, so that they are made again.

    Raises ValueError for changes that are not accepted, spelled out, and for a folder that another process
    uses; OSError when nothing can be written there; and what `find_rows` raises.
    """
    if not 1 <= batch <= 65536:
        raise ValueError(f"A part has 1 to 65536 rows, got {batch}.")
    listing = settings.find_rows(source, recursive)
    hashes = list(hash_rows(listing.rows))
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
    job = Job(listing.rows, out, settings, batch, record, listing.summarize())
    with lock_folder(out):
        if (out / "job.json").exists():
            before = read_record(out / "job.json")
            accepted = before.pop("accepted", [])
            if changes := find_changes(before, record, out, inputs):
                if not accept_changes:
                    raise ValueError(
                        f"{out} holds a job made from other things: {changes}. Go on with the same ones, "
                        "choose another folder, or give --accept-changes, which redoes what they change."
                    )
                delete_changed(job, before, inputs)
                (out / CAPTIONS).unlink(missing_ok=True)
                accepted = [*accepted, changes]
            record |= {"accepted": accepted} if accepted else {}
            if retry_failed:
                delete_failed(job)
        for name, content in (("inputs.jsonl", inputs), ("job.json", json.dumps(record, indent=1))):
            with write_whole(out / name) as file:
                file.write(content.encode())
        write_left_out(listing.left_out, out)
    return job


def read_settings(out: Path) -> dict:
    """Read the settings of the job that was begun in a folder; {} where there is none."""
    record = out / "job.json"
    settings = read_record(record).get("settings") if record.exists() else None
    return settings if isinstance(settings, dict) else {}


def find_changes(before: dict, record: dict, out: Path, inputs: str) -> str:
    """Spell out what differs from the record of a folder, rows by their names; "" for nothing."""
    hashes = {before.pop("inputs_sha256", None), record["inputs_sha256"]}
    differences = find_differences(
        before, {key: value for key, value in record.items() if key != "inputs_sha256"}
    )
    if len(hashes) > 1:
        old, new = dict(read_inputs(out)), dict(map(read_input, inputs.splitlines()))
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
    return str(entry["id"]), str(entry["sha256"])


def read_inputs(out: Path) -> list[tuple[str, str]]:
    """Read the ids and fingerprints of a folder's rows, in order; empty where they are lost."""
    try:
        return list(map(read_input, (out / "inputs.jsonl").read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def delete_changed(job: Job, before: dict, inputs: str) -> None:
    """Delete the parts that changed settings, model, batch or rows would make otherwise."""
    alike = {key: before.get(key) for key in ("batch", "settings", "model_sha256")}
    is_alike = not find_differences(alike, {key: job.record[key] for key in alike})
    old = read_inputs(job.out) if is_alike else []
    new = list(map(read_input, inputs.splitlines()))
    for number, path in find_parts(job.out):
        part = slice(number * job.batch, (number + 1) * job.batch)
        if old[part] != new[part] or not new[part]:
            path.unlink()


def delete_failed(job: Job) -> None:
    """Delete the parts with rows that failed."""
    for path in job.paths():
        if path.exists() and read_errors(path):
            path.unlink()


def run(
    job: Job,
    workers: int = 1,
    gpus: float = 0,
    threads: int = 1,
    device: str | None = None,
    address: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Run what is missing of a job on `workers` processes; returns how many of all rows failed.

    errors.jsonl lists them, and captions.csv the captions of the others.

    workers:  0 runs all in this process, without Ray.
    gpus:     share of a GPU for each worker.
    threads:  of the CPU for each worker; for small models many workers of one thread do more than few of
              many.
    device:   that models are on, as torch names it; None = a GPU where there is one.
    address:  of a Ray cluster that sees input, output and model files under the same paths; None = this
              machine.
    progress: called with the number of rows whenever a part is done.

    Raises ValueError without Ray, for numbers out of range, for a folder that another process uses or
    changed and for too little memory, OSError when a part cannot be written (on Ray, for all that ends a
    worker), RuntimeError when the workers cannot run.
    """
    check_workers(workers, gpus, threads)
    check_installed(job.settings.task, workers)
    with lock_folder(job.out):
        if read_record(job.out / "job.json") != job.record:
            raise ValueError(
                f"{job.out} has been given to another job since this one was opened: choose another folder."
            )
        missing = job.missing()
        worker: dict[str, Any] = {
            "out": job.out.resolve(),
            "batch": job.batch,
            "threads": threads,
            "device": device,
        }
        if missing and workers == 0:
            run_here(job, missing, Worker(job.settings, **worker), progress)
        elif missing:
            run_on_ray(job, missing, worker, workers, gpus, address, progress)
        failed = [row for path in job.paths() for row in read_errors(path)]
        with write_whole(job.out / "errors.jsonl") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in failed).encode())
        if job.settings.task == "caption":
            write_captions(job.out / CAPTIONS, job.paths(), job.settings.count)
    return len(failed)


def run_here(job: Job, missing: list[int], worker: Worker, progress: Callable[[int], None]) -> None:
    """Make the missing parts one after the other in this process."""
    for number in missing:
        worker.make(number, job.part(number))
        progress(len(job.part(number)))


def check_workers(workers: int, gpus: float, threads: int) -> None:
    """Raise ValueError for numbers out of range."""
    if not (0 <= workers <= 4096 and 1 <= threads <= 4096 and 0 <= gpus <= 64):
        raise ValueError(
            f"A job needs at least one worker with one thread, and 0 to 64 GPUs for each, got {workers} with "
            f"{threads}, and {gpus}."
        )


def check_installed(task: str, workers: int) -> None:
    """Raise ValueError, before any work, where a package is not installed that a job needs: pyarrow for
    parquet, Ray for workers.
    """
    needed = {"pyarrow": locate_part(Path(), task, 0).suffix == ".parquet", "ray": workers > 0}
    for package, is_needed in needed.items():
        if is_needed and find_spec(package) is None:
            raise ValueError(f"This job needs {package}, which is not installed: {INSTALL}.")


def run_on_ray(
    job: Job,
    missing: list[int],
    worker: dict[str, Any],
    workers: int,
    gpus: float,
    address: str | None,
    progress: Callable[[int], None],
) -> None:
    """Hand the missing parts out to workers. worker: what `Worker` takes beside the settings."""
    # it would call home, and chat
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    import ray

    threads = worker["threads"]
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
            fn_constructor_args=(job.settings,),
            fn_constructor_kwargs=worker,
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
