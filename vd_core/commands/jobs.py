"""What the commands of resumable jobs share: the run with its progress bar, and the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ..bulk.job import Job, check_installed, check_workers, open_job, run
from ..bulk.reconstruct import Reconstruction
from ..bulk.tasks import Settings
from ..placement import choose_device
from .options.jobs import SOME_FAILED


def run_job(
    source: Path,
    out: Path,
    settings: Settings | Reconstruction,
    options: argparse.Namespace,
    recursive: bool = False,
) -> tuple[Job, int]:
    """Run what is missing of a job, with a progress bar; returns the job and how many rows failed.

    settings: of the task. options: those of `add_job_options`.

    Raises what `open_job` and `run` raise.
    """
    check_workers(options.workers, options.gpus, options.threads)
    check_installed(settings.task, options.workers)
    if not options.workers:
        choose_device(options.device)
    job = open_job(
        source, out, settings, options.batch, recursive, options.accept_changes, options.retry_failed
    )
    if job.left_out:
        print(f"{source}: {job.left_out}", file=sys.stderr)
    waiting = sum(len(job.part(number)) for number in job.missing())
    with tqdm(total=len(job.rows), initial=len(job.rows) - waiting, unit=" rows") as bar:
        failed = run(
            job,
            workers=options.workers,
            gpus=options.gpus,
            threads=options.threads,
            device=options.device,
            address=options.address,
            progress=bar.update,
        )
    return job, failed


@contextmanager
def say_how_to_go_on(options: argparse.Namespace) -> Iterator[None]:
    """Let an interrupt say how a job goes on."""
    try:
        yield
    except KeyboardInterrupt:
        without = " without --retry-failed" * options.retry_failed
        raise KeyboardInterrupt(f"Stopped: the same command{without} goes on with what is missing.") from None


def report(job: Job, failed: int, place: Path) -> int:
    """Say how many rows are done and how many failed, and where; returns the exit status.

    Raises ValueError where no row could be made, with the reason of the first.
    """
    if failed == len(job.rows):
        with (job.out / "errors.jsonl").open(encoding="utf-8") as errors:
            first = json.loads(errors.readline())["error"]
        raise ValueError(f"All {failed} rows failed; {job.out}/errors.jsonl says why. {first}")
    retry = "; --retry-failed tries them again" if failed else ""
    done = len(job.rows) - failed
    print(f"{place}: {done} of {len(job.rows)} rows done, {failed} failed (errors.jsonl{retry})")
    return SOME_FAILED if failed else 0
