"""What the commands of resumable jobs share: options, the run with its progress bar, and the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from ..bulk.job import Job, check_installed, open_job, run
from ..bulk.reconstruct import Reconstruction
from ..bulk.tasks import Settings
from ..placement import resolve_device

DTYPE_HELP = (
    "of the weights; auto is what a CPU is fastest with, float16 on a GPU; on a CPU float16 is many times "
    "slower; default: %(default)s"
)
SOME_FAILED = 3  # exit status of a job that has ended, but not well in all its rows
STATUS = f"exit status: 0 all rows are done, 1 none could be, {SOME_FAILED} some failed (errors.jsonl)"


def add_job_options(parser: argparse.ArgumentParser, batch: int, workers: int) -> None:
    """Add how the rows of a job are run. batch, workers: the defaults."""
    parser.epilog = STATUS
    add = parser.add_argument
    rows = "rows of one part, which run together; default: %(default)s"
    add("--batch", type=int, default=batch, metavar="ROWS", help=rows)
    changes = "redo what a changed input, model or setting changes, and note it in job.json"
    add("--accept-changes", action="store_true", help=changes)
    add("--retry-failed", action="store_true", help="redo the parts with rows that failed before")
    processes = "processes on Ray, each with a model of its own; 0 = all in this one; default: %(default)s"
    add("--workers", type=int, default=workers, metavar="N", help=processes)
    add("--threads", type=int, default=1, metavar="N", help="of the CPU for each worker; default: 1")
    add("--gpus", type=float, default=0, metavar="SHARE", help="of a GPU for each worker; default: 0")
    add("--device", help="cpu, cuda, cuda:1, mps …; default: a GPU where there is one")
    add("--address", help="of a Ray cluster that sees all files under the same paths; default: this machine")


def run_job(
    source: Path,
    out: Path,
    settings: Settings | Reconstruction,
    options: argparse.Namespace,
    recursive: bool = False,
) -> tuple[Job, int]:
    """Run what is missing of a job, with a progress bar; returns the job and how many rows failed.

    settings: of the task. options: those of `add_job_options`.

    Raises ValueError where it was stopped, and what `open_job` and `run` raise.
    """
    check_installed(settings.task, options.workers)
    if options.device and not options.workers:
        resolve_device(options.device)
    job = open_job(
        source, out, settings, options.batch, recursive, options.accept_changes, options.retry_failed
    )
    if job.left_out:
        print(f"{source}: {job.left_out}", file=sys.stderr)
    waiting = sum(len(job.part(number)) for number in job.missing())
    with tqdm(total=len(job.rows), initial=len(job.rows) - waiting, unit=" rows") as bar:
        try:
            failed = run(
                job,
                workers=options.workers,
                gpus=options.gpus,
                threads=options.threads,
                device=options.device,
                address=options.address,
                progress=bar.update,
            )
        except KeyboardInterrupt:
            without = " without --retry-failed" * options.retry_failed
            raise ValueError(f"Stopped: the same command{without} goes on with what is missing.") from None
    return job, failed


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
