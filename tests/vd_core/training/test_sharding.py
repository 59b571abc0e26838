"""Two processes that divide the weights: the run of one process, resumed to the bit, with half of everything
in each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sharded_training import SETTINGS
from trainings import apart, assert_same, launcher, records

from vd_core.__main__ import main
from vd_core.training import distributed
from vd_core.training.sharding import Sharding
from vd_core.training.train import train

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def runs(pictures, models, tmp_path_factory):
    """Run by two processes: whole; parts, stopped and resumed; alone, stopped and resumed by one process.
    And one by one process."""
    if not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("this torch divides weights among GPUs only")
    out, killed_at = tmp_path_factory.mktemp("sharded"), 5
    model = models / "tiny.safetensors"
    command = [
        sys.executable,
        *launcher(2),
        "tests/sharded_training.py",
        str(pictures),
        str(model),
        str(out),
        str(killed_at),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("one", "alone"):
        train(pictures, model, out / name, SETTINGS)
    return out


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_the_same_curve_and_weights_as_one_process(runs, models):
    one, two = records(runs / "one"), records(runs / "whole")
    assert [record.keys() for record in one] == [record.keys() for record in two]
    differences = [
        abs(a[name] - b[name]) for a, b in zip(one, two, strict=True) for name in a.keys() - {"seconds"}
    ]
    print(f"losses: at most {max(differences):.1g} apart")
    assert max(differences) < 2e-5
    assert apart(weights(runs / "one"), weights(runs / "whole"), models) < 1e-4
    with (runs / "whole" / "sheet-000007.png").open("rb") as sheet:
        assert sheet.read(4) == b"\x89PNG"


@pytest.mark.slow
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(runs):
    assert_same(weights(runs / "parts"), weights(runs / "whole"))
    a, b = (torch.load(runs / name / "checkpoint.pt", weights_only=True) for name in ("parts", "whole"))
    for number, state in b["optimizer"]["state"].items():
        assert_same(a["optimizer"]["state"][number], state)


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(runs, models):
    assert apart(weights(runs / "one"), weights(runs / "alone"), models) < 1e-4


@pytest.mark.slow
def test_each_process_holds_half(runs, models):
    held = [json.loads((runs / f"held-{rank}.json").read_text()) for rank in range(2)]
    state = torch.load(runs / "whole" / "checkpoint.pt", weights_only=True)
    count = sum(value.numel() for value in state["module"].values())
    moments = sum(
        value.numel()
        for entry in state["optimizer"]["state"].values()
        for value in entry.values()
        if value.ndim
    )
    for name, total in (("weights", count), ("average", count), ("moments", moments)):
        parts = [entry[name] for entry in held]
        print(f"{name}: {total} numbers, {parts} in the processes")
        assert sum(parts) == total and max(parts) < 0.52 * total


def test_an_older_torch_on_a_cpu_is_one_sentence(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(torch.cpu, "Stream", object)
    with pytest.raises(
        ValueError, match="divides weights among GPUs only: install a newer one, or leave out --shard"
    ):
        Sharding(torch.device("cpu"))


def test_without_other_processes_it_is_one_sentence(pictures, models, tmp_path, capsys):
    command = [
        "train",
        str(pictures),
        "--model",
        str(models / "tiny.safetensors"),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--shard",
    ]
    assert main([*command, "--size", "32"]) == 1
    assert (
        "--shard divides the weights among several processes: start them by torchrun, or leave it out"
        in capsys.readouterr().err
    )
    assert main([*command, "--lora", "2"]) == 1
    assert "leave out --lora, or --shard" in capsys.readouterr().err
