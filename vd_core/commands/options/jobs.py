"""What the options of resumable jobs share."""

from __future__ import annotations

import argparse

DTYPE_HELP = (
    "of the weights; auto is what a CPU is fastest with, float16 on a GPU; on a CPU float16 is many times "
    "slower; default: %(default)s"
)
SOME_FAILED = 3  # exit status of a job that has ended, but not well in all its rows
STATUS = (
    f"exit status: 0 all rows done, 1 none could be, {SOME_FAILED} some failed: errors.jsonl, 130 stopped"
)


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
