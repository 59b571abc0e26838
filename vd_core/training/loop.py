"""One training loop for every part of the model: linear, resumable, logged as JSON lines."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..files import open_to_append, write_whole
from ..runs import find_differences, lock_folder
from . import distributed

if TYPE_CHECKING:
    from .sharding import Sharding

log = logging.getLogger(__name__)
Trained = TypeVar("Trained", bound=nn.Module)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, cooldown: float = 0.25) -> float:
    """Compute the learning rate of a step: linear warm-up, constant, then linear to zero over the last
    `cooldown` share.

    The constant part does not depend on `steps`, so that a run can be resumed with another length.
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    falling = min(1.0, (steps - step) / max(1.0, cooldown * steps))
    return peak * min(rising, falling)


class Group(NamedTuple):
    """Parameters optimised alike: gradients are multiplied by `gradient_scale`, the learning rate by `rate`.

    AdamW divides a constant gradient scale out again, except for what it changes in the clipping of all
    gradients to norm 1.
    """

    parameters: list[nn.Parameter]
    gradient_scale: float = 1.0
    rate: float = 1.0


CHECKPOINT, BEFORE = "checkpoint.pt", "checkpoint.before.pt"
CONTENTS = {"step", "trained_on", "module", "average", "optimizer"}  # of a checkpoint, at least


def save_checkpoint(state: dict, folder: Path) -> None:
    """Write a checkpoint atomically, and keep the one before it: a killed run leaves the last whole one.

    Raises OSError where it cannot be written.
    """
    path = folder / CHECKPOINT
    try:
        with write_whole(path) as file:
            torch.save(state, file)
            file.flush()
            if path.exists():
                os.replace(path, folder / BEFORE)
    except RuntimeError as error:  # of torch's writer, when the file refuses
        advice = "make room there, then the same command goes on from the checkpoint before it"
        raise OSError(f"{path} cannot be written: {advice}.") from error


def read_checkpoint(folder: Path) -> dict | None:
    """Read the last whole checkpoint of a folder, None where there is none.

    A damaged one is named in the log, and the one before it taken. Raises ValueError where both are damaged.
    """
    damaged = []
    for path in (folder / CHECKPOINT, folder / BEFORE):
        if path.exists():
            try:
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:  # torch does not compare checksums
                        raise ValueError("a checksum differs")
                state = torch.load(path, map_location="cpu", weights_only=True)
                if CONTENTS - state.keys():
                    raise ValueError("something is missing in it")
            except Exception as error:  # whatever became of the file
                log.warning("%s is damaged (%s)", path, str(error).partition("\n")[0])
                damaged.append(path)
                continue
            if damaged:
                log.warning("going on from the checkpoint before it, of step %d", state["step"])
            return state
    if damaged:
        names = " and ".join(map(str, damaged))
        raise ValueError(
            f"{names} cannot be read: put back a whole copy, or delete them to start this run over."
        )
    return None


def check_origin(state: dict, trained_on: dict, folder: Path, accept_changes: bool) -> list[str]:
    """Compare what a checkpoint was trained on with what is given; return all changes ever accepted.

    Raises ValueError, with the differences spelled out, where they are not accepted.
    """
    accepted = state.get("accepted", [])
    if changes := find_differences(state["trained_on"], trained_on):
        if not accept_changes:
            names = " and ".join(change.partition(" is ")[0] for change in changes)
            raise ValueError(
                f"{folder} holds another run: {'; '.join(changes)}. Choose an empty folder, or the same "
                f"{names}, or go on all the same with --accept-changes."
            )
        log.warning("%s goes on with changes: %s", folder, "; ".join(changes))
        accepted = [*accepted, f"at step {state['step']}: {'; '.join(changes)}"]
    return accepted


def fit(
    module: Trained,
    losses: Callable[[Trained, torch.Generator], Iterator[tuple[str, Tensor]]],
    out: Path,
    *,
    steps: int,
    lr: float,
    trained_on: dict,
    accept_changes: bool = False,
    seed: int = 0,
    ema: float = 0.999,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
    warmup: int = 200,
    save_every: int = 500,
    until: int | None = None,
    groups: Sequence[Group] | None = None,
    clip_apart: bool = False,
    # The attention is computed explicitly: the CPU's fused backward takes half of a step on short sequences.
    attention: Sequence[SDPBackend] = (SDPBackend.MATH,),
    shard: Sharding | None = None,
    sheet: Callable[[Trained, Path], None] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Train `module` to `steps` steps, resuming from `out`; return it with averaged (EMA) weights.

    losses:     yields (name, loss) pairs of one step; each is back-propagated as it comes, so gradients
                accumulate over them and only one graph is alive at a time. All randomness comes from the
                generator and torch's own, which depend on (seed, step) alone: a resumed run draws what an
                uninterrupted one would have drawn.
    trained_on: what the run depends on (hashes of data and frozen parts, settings), as a dictionary of
                strings and numbers. A checkpoint made with others is refused with a ValueError.
    accept_changes: go on from such a checkpoint all the same; later ones say what was accepted.
    ema:        0 = no average: the trained weights themselves, without a second copy.
    until:      stop after this step, which is saved; the next call goes on, possibly with other losses.
                None = after all steps.
    groups:     None = all parameters that require gradients, as one.
    clip_apart: gradients are clipped to norm 1 group by group, for adversaries: those of one must not drown
                the other's. If not, all together.
    shard:      copies of the module, divided among the processes, are trained and averaged in its place.
                Checkpoints, sheets and, in the first process, the result are whole all the same: a run goes
                on with or without it, on any number of processes.
    sheet:      called with the averaged module and `out` at every save, to write samples to look at.
    progress:   called after every step with (step, steps, seconds left).

    Under torchrun every process calls it alike; gradients and logged losses are averaged over them, and the
    first one writes. Returns the module in eval mode. Raises ValueError when a loss is not a finite number or
    does not depend on what is trained, for a checkpoint that is damaged or another run's, and for a folder
    that another process uses.
    """
    with lock_folder(out) if distributed.is_first() else nullcontext():
        groups = groups or [Group([p for p in module.parameters() if p.requires_grad])]
        average = copy.deepcopy(module).requires_grad_(False).eval() if ema else module
        state, accepted = read_checkpoint(out), []
        if state is not None:
            accepted = check_origin(state, trained_on, out, accept_changes)
            try:
                module.load_state_dict(state["module"])
                average.load_state_dict(state["average"])
            except (RuntimeError, TypeError, AttributeError) as error:
                advice = "choose an empty folder, or what was trained there before"
                raise ValueError(f"The checkpoint in {out} is one of other layers: {advice}.") from error
        shown = average
        if shard is not None:
            divided = shard.divide(module)
            module, groups = divided, shard.divide_groups(groups, module, divided)
            average = shard.divide(average) if ema else module
        parameters = [p for group in groups for p in group.parameters]
        optimizer = torch.optim.AdamW(
            [{"params": group.parameters} for group in groups],
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            fused=True,
        )
        step = 0
        if state is not None:
            step = state["step"]
            optimizer.load_state_dict(
                state["optimizer"] if shard is None else shard.divide_state(state["optimizer"], parameters)
            )
            log.info("%s: resumed at step %d of %d", out.name, step, steps)
            if state["trained_on"] != trained_on:  # accepted changes are recorded before anything is trained
                distributed.wait()  # until all have read the checkpoint
                if distributed.is_first():
                    save_checkpoint({**state, "trained_on": trained_on, "accepted": accepted}, out)
            del state

        module.train()
        last = steps if until is None else until
        started, first, recorded = time.monotonic(), step, step
        sums: dict[str, float] = {}
        with open_log(out / "log.jsonl", step) as write, sdpa_kernel(list(attention)):
            while step < last:
                generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
                torch.manual_seed(generator.initial_seed())  # dropout only reads the global generator
                for settings, group in zip(optimizer.param_groups, groups, strict=True):
                    settings["lr"] = learning_rate(step, steps, lr * group.rate, warmup)
                optimizer.zero_grad()
                for name, loss in losses(module, generator):
                    if not loss.requires_grad:
                        raise ValueError(
                            f"{name} runs through none of the layers that are trained: leave it out, or "
                            "train others."
                        )
                    loss.backward()
                    sums[name] = sums.get(name, 0.0) + loss.item()
                    if not math.isfinite(sums[name]):
                        raise ValueError(
                            f"The loss {name} is {loss.item()} at step {step}: start again with a lower "
                            "learning rate."
                        )
                if shard is None:  # else done on the way back
                    distributed.average(p.grad for p in parameters if p.grad is not None)
                for group in groups:
                    if group.gradient_scale != 1:
                        torch._foreach_mul_(
                            [p.grad for p in group.parameters if p.grad is not None], group.gradient_scale
                        )
                for members in [group.parameters for group in groups] if clip_apart else [parameters]:
                    torch.nn.utils.clip_grad_norm_(members, 1.0)
                optimizer.step()
                # A short average at first, so that it does not remember the initial weights.
                if average is not module:
                    update_average(average, module, min(ema, (1 + step) / (10 + step)))
                step += 1
                left = (time.monotonic() - started) / (step - first) * (steps - step)
                if step % 50 == 0 or step % save_every == 0 or step == last:
                    means = torch.tensor(list(sums.values()), dtype=torch.float64) / (step - recorded)
                    distributed.average([means])
                    seconds = round(time.monotonic() - started, 1)
                    record = {
                        "step": step,
                        "seconds": seconds,
                        **{k: round(v, 5) for k, v in zip(sums, means.tolist(), strict=True)},
                    }
                    write(record)
                    named = " · ".join(
                        f"{name.replace('_', ' ')} {mean:.4f}"
                        for name, mean in zip(sums, means.tolist(), strict=True)
                    )
                    log.info(
                        "%s: step %d of %d · %s · %s left",
                        out.name,
                        step,
                        steps,
                        named,
                        tqdm.format_interval(left),
                    )
                    sums, recorded = {}, step
                if progress is not None:
                    progress(step, steps, left)
                if step % save_every == 0 or step == last:
                    states = {
                        "module": module.state_dict(),
                        "average": average.state_dict(),
                        "optimizer": optimizer.state_dict(),
                    }
                    states = states if shard is None else shard.gather_state(states)
                    if distributed.is_first():
                        save_checkpoint(
                            {"step": step, "trained_on": trained_on, "accepted": accepted, **states}, out
                        )
                        if shown is not average:
                            shown.load_state_dict(states["average"])
                        if sheet is not None:
                            sheet(shown, out)
                    del states
        distributed.wait()  # the others read the checkpoint that the first one wrote
        return shown.eval()


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the exponential moving average by one step."""
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        mean.lerp_(value, 1 - decay) if mean.is_floating_point() else mean.copy_(value)


def read_log(path: Path) -> list[dict]:
    """Read the records of a log of JSON lines, none where there is no file; damaged lines are left out."""
    records = []
    lines = path.read_bytes().decode("utf-8", "replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # cut off by a kill, or damaged
            record = None
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    if len(records) < len(lines):
        log.warning("%s: %d damaged lines are left out", path, len(lines) - len(records))
    return records


@contextmanager
def open_log(path: Path, step: int) -> Iterator[Callable[[dict], None]]:
    """Open the log of a run to append records; what a killed run wrote after `step` is forgotten."""
    if not distributed.is_first():
        yield lambda record: None
        return
    kept = [record for record in read_log(path) if record["step"] <= step]
    with write_whole(path) as file:
        file.write("".join(f"{json.dumps(record)}\n" for record in kept).encode())
    with open_to_append(path) as lines:

        def write(record: dict) -> None:
            lines.write(json.dumps(record) + "\n")

        yield write
