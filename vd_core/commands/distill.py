"""`python -m vd_core distill`: make a model, or a LoRA for it, that samples in few large steps."""

from __future__ import annotations

import argparse

from ..checkpoints.load import open_checkpoints
from ..config import recommend_settings
from ..training.distill import Settings, distill
from .training_run import choose_precision, parse_flows, read_device, run_training


def run(options: argparse.Namespace) -> None:
    """Distil, and say what was written."""
    side, _, cfg = recommend_settings(open_checkpoints(options.model)[1])
    chosen = Settings(
        flows=parse_flows(options.flows),
        size=side if options.size is None else options.size,
        method=options.method,
        steps=options.steps,
        iterations=options.iterations,
        batch=options.batch,
        lr=(2e-4 if side < 256 else 1e-5) if options.lr is None else options.lr,
        cfg=cfg if options.cfg is None else options.cfg,
        lora=options.lora,
        extract=options.extract,
        teacher=options.teacher,
        caption=options.caption,
        ema=options.ema,
        seed=options.seed,
        precision=choose_precision(options),
        device=read_device(options),
        save_every=options.every,
        sheet_size=options.sheet,
    )
    written = run_training(options, chosen, distill)
    if written is not None:
        print(written)
