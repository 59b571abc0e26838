"""`python -m vd_core bulk`: caption, vary, draw or embed many rows, on Ray Data."""

from __future__ import annotations

import argparse

from ..bulk.parts import CAPTIONS
from ..bulk.tasks import Settings, resolve_models
from ..checkpoints.load import open_checkpoints
from ..config import recommend_settings
from ..sampling.options import Sampling
from .jobs import report, run_job, say_how_to_go_on


def run(options: argparse.Namespace) -> int:
    """Run what is missing of a job; print what came of it. Returns the exit status."""
    models, cfg = resolve_models(options.model), options.cfg
    if cfg is None:
        cfg = recommend_settings(open_checkpoints(models)[1])[2]
    settings = Settings(
        task=options.task,
        models=models,
        count=options.count,
        seed=options.seed,
        size=options.size,
        background=options.background,
        sampling=Sampling(options.sampler, options.steps, cfg),
    )
    with say_how_to_go_on(options):
        job, failed = run_job(options.input, options.output, settings, options, options.recursive)
    status = report(job, failed, options.output)
    if settings.task == "caption":
        print(options.output / CAPTIONS)
    return status
