"""The pages for callers of the library: written from the docstrings, and every line of Python in them
runs.
"""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.python_api import PAGE, page
from vd_core import MODEL, load

ROOT = Path(__file__).resolve().parents[2]


def code_of(path, number=0):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)[number]


def run(code, folder):
    (folder / "lines.py").write_text(code, encoding="utf-8")
    return runpy.run_path(str(folder / "lines.py"))


def test_the_api_page_is_written_from_the_docstrings():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tools.python_api"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_readme_draws_in_every_precision(tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)
    code = code_of("README.md").replace("load(MODEL)", f"load(MODEL, dtype=torch.{dtype})")
    images = run(code, tmp_path)["images"]
    assert images.shape == (1, 3, 64, 64) and images.dtype == torch.float32 and images.isfinite().all()
    assert (tmp_path / "rocket.png").exists()


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vd = load(MODEL)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    np.save("image_tokens.npy", vd.encode_image(pictures).tokens.numpy())
    return vd


def small(code):
    """The lines for the embedded model: its name, and the shape of its latents."""
    return code.replace('load("shi-labs/versatile-diffusion")', "load(MODEL)").replace(
        "1, 4, 64, 64", "1, 16, 8, 8"
    )


def test_embeddings_are_drawn_as_the_page_says(predicted, tmp_path):
    code = "from vd_core import MODEL\n" + small(code_of("docs/embeddings.md"))
    assert run(code, tmp_path)["latents"].shape == (1, 16, 8, 8) and (tmp_path / "row.png").exists()


def test_the_loop_of_research_code_runs(predicted, tmp_path):
    before = """
import numpy as np, torch
from vd_core import MODEL, Context, Sampling, load
vd, generator = load(MODEL), torch.Generator().manual_seed(0)
image_tokens = torch.from_numpy(np.load("image_tokens.npy"))[:1]
text_tokens, text_null = vd.encode_text("red apple").tokens, vd.encode_text("").tokens
guess = torch.rand(1, 3, 64, 64)
"""
    assert run(before + code_of("docs/migrate.md"), tmp_path)["pictures"].shape == (1, 3, 64, 64)
