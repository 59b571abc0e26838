"""`python -m vd_core bulk`: caption, vary, draw or embed many rows, on Ray Data."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...choices import TASKS
from ...embedded import MODEL
from ...sampling.samplers import SAMPLERS
from .jobs import add_job_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("task", choices=TASKS, help="what to make of each row")
    inputs = "pictures, lists (.txt, .jsonl, .csv, .tsv), .parquet, webdataset .tar"
    add("input", type=Path, metavar="INPUT", help=f"folder, or one file: {inputs}")
    outputs = "part-… files (parquet, or tar for pictures), captions.csv, errors.jsonl"
    add("output", type=Path, metavar="OUTPUT", help=f"folder of the job: {outputs}")
    add("--recursive", action="store_true", help="take the subfolders of INPUT too")
    models = "files that make up one model; default: the embedded one"
    add("--model", nargs="+", default=[MODEL], metavar="FILE", help=models)
    add("--count", type=int, default=1, metavar="N", help="results per row; default: 1")
    size = "side of the pictures to make; default: the model's, 512, or 64 of the embedded one"
    add("--size", type=int, metavar="PIXELS", help=size)
    background = "colour under transparent pictures, such as black or #ff8000; default: white"
    add("--background", default="white", metavar="COLOR", help=background)
    add("--steps", type=int, default=20, help="default: 20")
    add("--cfg", type=float, help="guidance scale; default: 7.5, of small models 2")
    add("--sampler", choices=SAMPLERS, default="dpmpp_2m", help="default: dpmpp_2m")
    add("--seed", type=int, default=0, help="default: 0")
    add_job_options(parser, batch=8, workers=1)
