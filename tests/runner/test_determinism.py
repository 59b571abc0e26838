"""The same seed gives the same result: in another run and another process to the last bit, in a batch of
another size but for rounding."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import assert_rounded

from runner.pack import load_pack

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def draw():
    """Latents of a flow by the Multi-Flow Sampler, as (pictures or texts, batch size) -> [B, …]."""
    pack = load_pack(name="versatile_diffusion_determined")
    classes, host = (
        pack.NODE_CLASS_MAPPINGS,
        importlib.import_module(f"{pack.__name__}.nodes.host.standalone"),
    )
    (clip,) = classes["VD_LoadClip"]().execute(model="embedded")
    positive, negative = classes["VD_TextContext"]().execute(
        clip=clip, text="red apple, 3d style", negative_text=""
    )
    flows = {data: host.load_flow(host.MODEL, data, "all", "default") for data in ("image", "text")}

    def run(data: str, batch: int, seed: int = 7) -> torch.Tensor:
        shape = (16, 8, 8) if data == "image" else (flows[data].sizes.channels, 1, 1)
        given = {
            "seed": seed,
            "steps": 5,
            "cfg": 2.0,
            "sampler": "ddim",
            "eta": 1.0,
            "fidelity": 0.0,
            "noise": "per sample",
        }
        latent = {"samples": torch.zeros(batch, *shape)}
        with torch.inference_mode():
            return classes["VD_Sampler"]().execute(flows[data], positive, negative, latent, **given)[0][
                "samples"
            ]

    return run


@pytest.mark.parametrize("data", ["image", "text"])
def test_runs_and_batches_agree(draw, data):
    alone, again, many = draw(data, 1), draw(data, 1), draw(data, 3)
    assert torch.equal(alone, again)
    assert_rounded(many[:1], alone)  # sums over a batch are blocked in another way
    assert (many[1:] - alone).abs().amax((1, 2, 3)).min() > 0.1 and (
        draw(data, 1, seed=8) - alone
    ).abs().max() > 0.1


def test_processes_agree(tmp_path):
    found = []
    for name in ("one", "other"):
        command = [
            sys.executable,
            "run_workflow.py",
            "workflows/api/dual-context.json",
            "--set=Sampler.steps=3",
            "--output",
            tmp_path / name,
        ]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        found.append([np.asarray(Image.open(path)) for path in sorted((tmp_path / name).glob("*.png"))])
    assert len(found[0]) == 4 and all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
