"""Run by test_sharding.py under torchrun: a whole run, a stopped and a resumed one, what processes held."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from vd_core.choices import RECIPES
from vd_core.training import loop
from vd_core.training.distributed import end, start
from vd_core.training.settings import Settings
from vd_core.training.train import train

STAGES = ((RECIPES["single"], 3), (RECIPES["dual"], 4))
SETTINGS = Settings(
    stages=STAGES,
    size=32,
    batch=2,
    lr=1e-3,
    warmup=2,
    save_every=2,
    sheet_size=1,
    checkpointing=True,
    gradient_scales={"data": 0.5},
)


def here(tensors) -> int:
    """How many numbers of some tensors lie in this process."""
    return sum(
        t.to_local().numel() if isinstance(t, DTensor) else t.numel()
        for t in tensors
        if isinstance(t, Tensor) and t.ndim
    )


def main(pictures: Path, model: Path, out: Path, kill_at: int) -> None:
    """All runs, as folders in `out`; they are stopped at step `kill_at`."""
    held, settings, update_average = {}, replace(SETTINGS, shard=True), loop.update_average

    class Watched(torch.optim.AdamW):
        def step(self):
            super().step()
            held["moments"] = here(value for state in self.state.values() for value in state.values())

    def watched(average, module, decay):
        update_average(average, module, decay)
        held.update(weights=here(module.state_dict().values()), average=here(average.state_dict().values()))

    def kill(step, steps, left):
        if step == kill_at:
            raise KeyboardInterrupt

    start("cpu")
    try:
        with_all, torch.optim.AdamW, loop.update_average = torch.optim.AdamW, Watched, watched
        train(pictures, model, out / "whole", settings)
        torch.optim.AdamW, loop.update_average = with_all, update_average
        rank = distributed.get_rank()
        (out / f"held-{rank}.json").write_text(json.dumps(held))
        try:
            train(pictures, model, out / "parts", settings, kill)
        except KeyboardInterrupt:
            distributed.barrier()
        if rank == 0:
            shutil.copytree(out / "parts", out / "alone")
        distributed.barrier()
        torch.rand(5)
        train(pictures, model, out / "parts", settings)
    finally:
        end()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
