"""The page of the API is written from the docstrings, and the Python of README.md runs in every precision."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from tools.python_api import PAGE, write_page

ROOT = Path(__file__).resolve().parents[2]


def code_of(path):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)[0]


def run(code, folder):
    (folder / "lines.py").write_text(code, encoding="utf-8")
    return runpy.run_path(str(folder / "lines.py"))


def test_the_api_page_is_written_from_the_docstrings():
    assert PAGE.read_text(encoding="utf-8") == write_page(), "run python -m tools.python_api"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_readme_draws_in_every_precision(tmp_path, monkeypatch, dtype):
    monkeypatch.chdir(tmp_path)
    code = code_of("README.md").replace("load(MODEL)", f"load(MODEL, dtype=torch.{dtype})")
    images = run(code, tmp_path)["images"]
    assert images.shape == (1, 3, 64, 64) and images.dtype == torch.float32 and images.isfinite().all()
    assert (tmp_path / "rocket.png").exists()
