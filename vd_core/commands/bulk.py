"""`python -m vd_core bulk`: caption, vary, draw or embed many rows, on Ray Data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..bulk.tasks import READS, Settings, resolve_models
from ..embedded import MODEL
from ..sampling.options import Sampling
from ..sampling.samplers import SAMPLERS

HELP = "caption, vary, draw or embed many pictures or texts, on Ray Data; resumes where it was stopped"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("task", choices=READS, help="what to make of each row")
    inputs = "pictures, lists (.txt, .jsonl, .csv, .tsv), .parquet, webdataset .tar"
    add("input", type=Path, metavar="INPUT", help=f"folder, or one file: {inputs}")
    outputs = "part-… files (parquet, or tar for pictures), errors.jsonl"
    add("output", type=Path, metavar="OUTPUT", help=f"folder of the job: {outputs}")
    add("--recursive", action="store_true", help="take the subfolders of INPUT too")
    models = "files that make up one model; default: the embedded one"
    add("--model", nargs="+", default=[MODEL], metavar="FILE", help=models)
    add("--count", type=int, default=1, metavar="N", help="results per row; default: 1")
    add(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures to make; default: 512, embedded model 64",
    )
    background = "colour under transparent pictures, such as black or #ff8000; default: white"
    add("--background", default="white", metavar="COLOR", help=background)
    add("--steps", type=int, default=20, help="default: 20")
    add("--cfg", type=float, help="guidance scale; default: 7.5, embedded model 2")
    add("--sampler", choices=SAMPLERS, default="dpmpp_2m", help="default: dpmpp_2m")
    add("--seed", type=int, default=0, help="default: 0")
    add(
        "--batch",
        type=int,
        default=8,
        metavar="ROWS",
        help="rows of one part, which run together; default: 8",
    )
    changes = "make anew what a changed input, model or setting changes, and note it in job.json"
    add("--accept-changes", action="store_true", help=changes)
    add(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes, each with a model of its own; default: 1",
    )
    add("--threads", type=int, default=1, metavar="N", help="of the CPU for each worker; default: 1")
    add("--gpus", type=float, default=0, metavar="SHARE", help="of a GPU for each worker; default: 0")
    add("--address", help="of a Ray cluster that sees all files under the same paths; default: this machine")


def run(options: argparse.Namespace) -> None:
    """Run what is missing of a job, with a progress bar; print what came of it."""
    from ..bulk.job import open_job, run

    cfg = options.cfg
    if cfg is None:
        cfg = 2.0 if options.model == [MODEL] else 7.5
    settings = Settings(
        task=options.task,
        models=resolve_models(options.model),
        count=options.count,
        seed=options.seed,
        size=options.size,
        background=options.background,
        sampling=Sampling(options.sampler, options.steps, cfg),
    )
    job = open_job(
        options.input, options.output, settings, options.batch, options.recursive, options.accept_changes
    )
    if job.left_out:
        print(f"{options.input}: {job.left_out}", file=sys.stderr)
    waiting = sum(len(job.part(number)) for number in job.missing())
    with tqdm(total=len(job.rows), initial=len(job.rows) - waiting, unit=" rows") as bar:
        try:
            failed = run(job, options.workers, options.gpus, options.threads, options.address, bar.update)
        except KeyboardInterrupt:
            raise ValueError("Stopped: the same command goes on with what is missing.") from None
    done = len(job.rows) - failed
    print(f"{options.output}: {done} of {len(job.rows)} rows done, {failed} failed (errors.jsonl)")
