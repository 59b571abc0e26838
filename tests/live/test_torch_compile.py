"""Core's own way to compile MODELs takes ours: captured whole, with the same results."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from run_workflow import load_host

pytestmark = pytest.mark.comfyui


def test_what_core_captures_gives_what_the_model_gives(checkout, tmp_path):
    script = str(Path(__file__).with_name("compiled_in_comfyui.py"))
    done = subprocess.run(
        [load_host("launcher").python(checkout), script, "--cpu", "--use-pytorch-cross-attention", "--base-directory", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for flow, (difference, first, graphs) in found.items():
        print(f"{flow}: {difference:.2g} from the plain MODEL, {first} graphs for the first size, {graphs} in all")
        assert difference < 1e-5 and 0 < first <= graphs <= 8
