"""One training loop for every part of the model: linear, resumable, logged as JSON lines."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..files import make_folder, open_to_append, write_whole
from . import distributed

if TYPE_CHECKING:
    from .sharding import Sharding

log = logging.getLogger(__name__)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, cooldown: float = 0.25) -> float:
    """Linear warm-up, constant, then linear to zero over the last `cooldown` share of the steps.

    The constant part does not depend on `steps`, so that a run can be resumed with another length.
    """
    rising = min(1.0, (step + 1) / warmup)
    falling = min(1.0, (steps - step) / max(1.0, cooldown * steps))
    return peak * min(rising, falling)


class Group(NamedTuple):
    """Parameters that are optimised alike: their gradients are multiplied by `gradient_scale`, the learning rate by `rate`.

    AdamW divides a constant gradient scale out again, except for what it changes in the clipping of all gradients to norm 1.
    """

    parameters: list[nn.Parameter]
    gradient_scale: float = 1.0
    rate: float = 1.0


def save(state: dict, path: Path) -> None:
    """Write atomically: a killed run leaves the last complete checkpoint. Raises OSError where it cannot be written."""
    try:
        with write_whole(path) as file:
            torch.save(state, file)
    except RuntimeError as error:  # of torch's writer, when the file refuses
        raise OSError(f"{path} cannot be written: make room there, then the same command goes on from the checkpoint before it.") from error


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
    betas: tuple[float, float] = (0.9, 0.99),
    warmup: int = 200,
    save_every: int = 500,
    until: int | None = None,
    groups: Sequence[Group] | None = None,
    # The attention is computed explicitly: the CPU's fused backward takes half of a step on short sequences.
    attention: Sequence[SDPBackend] = (SDPBackend.MATH,),
    shard: Sharding | None = None,
    sheet: Callable[[nn.Module, Path], None] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> nn.Module:
    """Train `module` to `steps` steps, resuming from `out`/checkpoint.pt, and return it with the averaged (EMA) weights, in eval mode.

    losses:     yields (name, loss) pairs of one step; each is back-propagated as it comes, so gradients accumulate over them and only one
                graph is alive at a time. All randomness comes from the generator and torch's own, which depend on (seed, step) alone: a
                resumed run draws what an uninterrupted one would have drawn.
    trained_on: hashes of what the run depends on (data, frozen parts). A checkpoint made with others is refused with a ValueError.
    ema:        0 = no average: the trained weights themselves, without a second copy.
    until:      stop after this step, which is saved; the next call goes on, possibly with other losses. None = after all steps.
    groups:     None = all parameters that require gradients, as one.
    shard:      copies of the module, divided among the processes, are trained and averaged in its place. Checkpoints, sheets and, in the
                first process, the result are whole all the same: a run goes on with or without it, on any number of processes.
    sheet:      called with the averaged module and `out` at every save, to write samples that a person can look at.
    progress:   called after every step with (step, steps, seconds left).

    Under torchrun every process calls it alike; gradients and logged losses are averaged over them, and the first one writes.
    Raises ValueError when a loss is not a finite number or does not depend on what is trained.
    """
    make_folder(out)
    checkpoint = out / "checkpoint.pt"
    groups = groups or [Group([p for p in module.parameters() if p.requires_grad])]
    average = copy.deepcopy(module).requires_grad_(False).eval() if ema else module
    state = stored(checkpoint, trained_on) if checkpoint.exists() else None
    if state is not None:
        module.load_state_dict(state["module"])
        average.load_state_dict(state["average"])
    shown = average
    if shard is not None:
        divided = shard.divided(module)
        module, groups = divided, shard.groups(groups, module, divided)
        average = shard.divided(average) if ema else module
    parameters = [p for group in groups for p in group.parameters]
    optimizer = torch.optim.AdamW(
        [{"params": group.parameters} for group in groups], lr=lr, betas=betas, weight_decay=weight_decay, fused=True
    )
    step = 0
    if state is not None:
        step = state["step"]
        optimizer.load_state_dict(state["optimizer"] if shard is None else shard.divided_state(state["optimizer"], parameters))
        log.info("%s: resumed at step %d of %d", out.name, step, steps)
        del state

    module.train()
    last = steps if until is None else until
    started, first, recorded = time.monotonic(), step, step
    sums: dict[str, float] = {}
    with journal(out / "log.jsonl", step) as write, sdpa_kernel(list(attention)):
        while step < last:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            torch.manual_seed(generator.initial_seed())  # dropout only reads the global generator
            for settings, group in zip(optimizer.param_groups, groups, strict=True):
                settings["lr"] = learning_rate(step, steps, lr * group.rate, warmup)
            optimizer.zero_grad()
            for name, loss in losses(module, generator):
                if not loss.requires_grad:
                    raise ValueError(f"{name} runs through none of the layers that are trained: leave it out, or train others.")
                loss.backward()
                sums[name] = sums.get(name, 0.0) + loss.item()
                if not math.isfinite(sums[name]):
                    raise ValueError(f"The loss {name} is {loss.item()} at step {step}: start again with a lower learning rate.")
            if shard is None:  # else done on the way back
                distributed.average(p.grad for p in parameters if p.grad is not None)
            for group in groups:
                if group.gradient_scale != 1:
                    torch._foreach_mul_([p.grad for p in group.parameters if p.grad is not None], group.gradient_scale)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            # A short average at first, so that it does not remember the initial weights.
            if average is not module:
                follow(average, module, min(ema, (1 + step) / (10 + step)))
            step += 1
            left = (time.monotonic() - started) / (step - first) * (steps - step)
            if step % 50 == 0 or step % save_every == 0 or step == last:
                means = torch.tensor(list(sums.values()), dtype=torch.float64) / (step - recorded)
                distributed.average([means])
                seconds = round(time.monotonic() - started, 1)
                record = {"step": step, "seconds": seconds, **{k: round(v, 5) for k, v in zip(sums, means.tolist(), strict=True)}}
                write(record)
                named = " · ".join(f"{name.replace('_', ' ')} {mean:.4f}" for name, mean in zip(sums, means.tolist(), strict=True))
                log.info("%s: step %d of %d · %s · %s left", out.name, step, steps, named, duration(left))
                sums, recorded = {}, step
            if progress is not None:
                progress(step, steps, left)
            if step % save_every == 0 or step == last:
                states = {"module": module.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
                states = states if shard is None else shard.whole_state(states)
                if distributed.is_first():
                    save({"step": step, "trained_on": trained_on, **states}, checkpoint)
                    if shown is not average:
                        shown.load_state_dict(states["average"])
                    if sheet is not None:
                        sheet(shown, out)
                del states
    distributed.wait()  # the others read the checkpoint that the first one wrote
    return shown.eval()


def duration(seconds: float) -> str:
    """Hours (if any), minutes and seconds, as in 1:05:09 or 5:09."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def stored(checkpoint: Path, trained_on: dict[str, str]) -> dict:
    """A checkpoint. Raises ValueError when its run depends on other things."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    before = state["trained_on"]
    if changed := [name for name in {**before, **trained_on} if before.get(name) != trained_on.get(name)]:
        values = "; ".join(f"{name} is {trained_on.get(name)}, there it was {before.get(name)}" for name in changed)
        raise ValueError(f"{checkpoint.parent} holds another run: {values}. Choose an empty folder, or the same {' and '.join(changed)}.")
    return state


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """One step of the exponential moving average."""
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)


@contextmanager
def journal(path: Path, step: int) -> Iterator[Callable[[dict], None]]:
    """A function that appends records to the log of JSON lines, in which what a killed run wrote after `step` is forgotten."""
    if not distributed.is_first():
        yield lambda record: None
        return
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    with write_whole(path) as file:
        file.write("".join(f"{line}\n" for line in kept).encode())
    with open_to_append(path) as file:

        def write(record: dict) -> None:
            file.write(json.dumps(record) + "\n")

        yield write
