"""One training loop for every part of the model: linear, resumable, logged as JSON lines."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

log = logging.getLogger(__name__)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, cooldown: float = 0.25) -> float:
    """Linear warm-up, constant, then linear to zero over the last `cooldown` share of the steps.

    The constant part does not depend on `steps`, so that a run can be resumed with another length.
    """
    rising = min(1.0, (step + 1) / warmup)
    falling = min(1.0, (steps - step) / max(1.0, cooldown * steps))
    return peak * min(rising, falling)


def save(state: dict, path: Path) -> None:
    """Write atomically: a killed run leaves the last complete checkpoint."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def fit(
    module: nn.Module,
    losses: Callable[[nn.Module, torch.Generator], Iterator[tuple[str, Tensor]]],
    out: Path,
    *,
    steps: int,
    lr: float,
    trained_on: dict[str, str],
    seed: int = 0,
    ema: float = 0.999,
    weight_decay: float = 0.01,
    save_every: int = 500,
    sheet: Callable[[nn.Module, Path], None] | None = None,
) -> nn.Module:
    """Train `module` to `steps` steps, resuming from `out`/checkpoint.pt, and return it with the averaged (EMA) weights, in eval mode.

    losses:     yields (name, loss) pairs of one step; each is back-propagated as it comes, so gradients accumulate over them and only one
                graph is alive at a time. All randomness comes from the generator and torch's own, which depend on (seed, step) alone: a
                resumed run draws what an uninterrupted one would have drawn.
    trained_on: hashes of what the run depends on (data, frozen parts). A checkpoint made with others is refused with a ValueError.
    sheet:      called with the averaged module and `out` at every save, to write samples that a person can look at.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
    average = copy.deepcopy(module).requires_grad_(False).eval()
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["trained_on"] != trained_on:
            raise ValueError(f"{checkpoint} was trained on {state['trained_on']}, this run uses {trained_on}. Choose an empty folder.")
        step = state["step"]
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        log.info("%s: resumed at step %d of %d", out.name, step, steps)

    module.train()
    started, first = time.monotonic(), step
    sums: dict[str, float] = {}
    # The attention is computed explicitly: the CPU's fused backward takes half of a step on short sequences.
    with (out / "log.jsonl").open("a") as journal, sdpa_kernel(SDPBackend.MATH):
        while step < steps:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            torch.manual_seed(generator.initial_seed())  # dropout only reads the global generator
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, lr)
            optimizer.zero_grad()
            for name, loss in losses(module, generator):
                loss.backward()
                sums[name] = sums.get(name, 0.0) + loss.item()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            # A short average at first, so that it does not remember the initial weights.
            decay = min(ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
                    mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)
            step += 1
            if step % 50 == 0 or step == steps:
                done = min((step - 1) % 50 + 1, step - first)
                seconds = time.monotonic() - started
                left = seconds / (step - first) * (steps - step)
                record = {"step": step, "seconds": round(seconds, 1), **{k: round(v / done, 5) for k, v in sums.items()}}
                journal.write(json.dumps(record) + "\n")
                journal.flush()
                log.info("%s %s · %d min left", out.name, json.dumps(record), left / 60)
                sums = {}
            if step % save_every == 0 or step == steps:
                states = {"module": module.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
                save({"step": step, "trained_on": trained_on, **states}, checkpoint)
                if sheet is not None:
                    sheet(average, out)
    return average
