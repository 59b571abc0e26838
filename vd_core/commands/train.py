"""`versatile-diffusion train`: train on pictures of your own."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import torch

from ..checkpoints.load import open_checkpoints
from ..choices import PRECISIONS
from ..config import recommend_settings
from ..training.loss import Refinements
from ..training.settings import LoraSettings, PriorSettings, Settings
from ..training.train import train
from .training_run import choose_precision, parse_flows, read_device, run_training

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> None:
    """Train, and say what was written."""
    written = run_training(options, read_settings(options), train)
    if written is not None:
        log.info("done: losses and sheets lie in %s, beside what was trained:", options.out)
        print(written)


def read_settings(options: argparse.Namespace) -> Settings:
    """Turn options into settings. Raises ValueError for what does not go together."""
    side, _, cfg = recommend_settings(open_checkpoints(options.model)[1])
    if len(options.steps) not in (1, len(options.flows)):
        raise ValueError(
            f"There are {len(options.flows)} stages of flows but {len(options.steps)} numbers of steps."
        )
    steps = options.steps * len(options.flows) if len(options.steps) == 1 else options.steps
    prior = None
    if options.prior or options.prior_prompts:
        prior = PriorSettings(
            options.prior, tuple(options.prior_prompts), options.prior_pictures, options.prior_weight
        )
    lora = None
    if options.lora is not None:
        lora = LoraSettings(
            options.lora, options.lora if options.alpha is None else options.alpha, tuple(options.layers)
        )
    default_rate = (1e-4 if lora or options.from_scratch else 1e-5) * (10 if side < 256 else 1)
    return Settings(
        stages=tuple(zip(map(parse_flows, options.flows), steps, strict=True)),
        size=side if options.size is None else options.size,
        batch=options.batch,
        lr=default_rate if options.lr is None else options.lr,
        warmup=options.warmup,
        caption=options.caption,
        dropout=options.dropout,
        ema=options.ema,
        weight_decay=options.weight_decay,
        seed=options.seed,
        gradient_scales=parse_scales(options.gradient_scales),
        rates=parse_scales(options.lr_scales),
        refinements=Refinements(options.min_snr, options.multiscale),
        shift=options.shift,
        precision=choose_precision(options),
        weights=getattr(torch, PRECISIONS[options.frozen]),
        checkpointing=options.checkpointing,
        device=read_device(options),
        save_every=options.every,
        sheet_size=options.sheet,
        cfg=cfg if options.cfg is None else options.cfg,
        lora=lora,
        prior=prior,
        from_scratch=options.from_scratch,
        target=options.target,
        shard=options.shard,
        recursive=options.recursive,
        background=options.background,
        accept_changes=options.accept_changes,
    )


def parse_scales(entries: Sequence[str]) -> dict[str, float]:
    """Parse GROUP=X entries. Raises ValueError for others."""
    try:
        return {name: float(value) for name, _, value in (entry.partition("=") for entry in entries)}
    except ValueError as error:
        raise ValueError(
            f"Scales are written GROUP=X, such as context=0.5, not {' '.join(entries)}."
        ) from error
