"""`python -m vd_core bulk`: caption, vary, draw or embed many rows, on Ray Data."""

from __future__ import annotations

import argparse

from ..bulk.parts import CAPTIONS
from ..bulk.tasks import Settings, resolve_models
from ..embedded import MODEL
from ..sampling.options import Sampling
from .jobs import report, run_job


def run(options: argparse.Namespace) -> int:
    """Run what is missing of a job; print what came of it. Returns the exit status."""
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
    job, failed = run_job(options.input, options.output, settings, options, options.recursive)
    status = report(job, failed, options.output)
    if settings.task == "caption":
        print(options.output / CAPTIONS)
    return status
