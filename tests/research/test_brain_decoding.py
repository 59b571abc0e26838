"""The patterns of brain decoding on the embedded model: short, and they find the picture that was seen."""

import inspect
import json
import runpy
from pathlib import Path

import pytest
import torch

from research import lora_by_gradients
from research.brain_decoding import brain_diffuser, metrics, mindeye
from research.brain_decoding.predictions import predict
from vd_core import MODEL, Sampling, load, token_similarity

FOLDER = Path(mindeye.__file__).parent


@pytest.fixture(scope="module")
def vd():
    return load(MODEL)


@pytest.fixture(scope="module")
def given(vd):
    return predict(vd, 3)


@pytest.mark.parametrize("pattern", [mindeye.reconstruct, brain_diffuser.reconstruct])
def test_a_pattern_takes_at_most_fifteen_lines(pattern):
    assert len(inspect.getsource(pattern).rstrip().splitlines()) <= 15


def test_mindeye_puts_the_nearest_sample_first(vd, given):
    drawn = mindeye.reconstruct(vd, given.images[:1], given.guesses[:1], count=4)
    scores = token_similarity(vd.encode_image(drawn).tokens, given.images[:1])
    assert drawn.shape == (4, 3, 64, 64) and scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_brain_diffuser_finds_what_was_seen(vd, given):
    drawn = brain_diffuser.reconstruct(vd, given.images, given.texts, given.guesses)
    assert metrics.identify(vd, drawn, given.seen) == 1 and metrics.pixel_correlation(drawn, given.seen) > 0.5


def test_figures_of_pictures_that_are_right_and_wrong(vd, given):
    assert metrics.pixel_correlation(given.seen, given.seen) == pytest.approx(1, abs=1e-5)
    assert metrics.pixel_correlation(1 - given.seen, given.seen) == pytest.approx(-1, abs=0.05)
    assert metrics.identify(vd, given.seen, given.seen) == 1
    assert metrics.identify(vd, given.seen.roll(1, 0), given.seen) < 0.5


def test_variations_are_measured(vd, given):
    line = metrics.evaluate_variations(vd, given.seen, Sampling("dpmpp_2m", 6, 2.0))
    assert line.startswith("pixel correlation") and "two-way identification" in line


def test_a_lora_learns_through_the_sampler(vd, given):
    wanted = vd.encode_image(given.seen[:1]).tokens[:, 0]
    lora, losses = lora_by_gradients.learn(
        vd, vd.encode_text("banana, flat style"), wanted, updates=4, rate=1e-2
    )
    assert losses[-1] < losses[0] - 0.005
    assert all(parameter.grad is not None for parameter in lora.parameters())
    assert not any(parameter.grad is not None for parameter in vd.diffuser.parameters())


@pytest.mark.slow
def test_the_notebook_runs():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(FOLDER / "reconstruct.ipynb", as_version=4)
    nbformat.validate(notebook)
    root = str(FOLDER.parents[1])
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": root}}
    ).execute()
    figures = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert "two-way identification 1.00" in figures
    pictures = [
        out
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if "image/png" in out.get("data", {})
    ]
    assert len(pictures) == 2


def test_the_notebooks_cells_run_as_a_program(tmp_path):
    """Without Jupyter too."""
    cells = json.loads((FOLDER / "reconstruct.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "notebook.py").write_text(code)
    names = runpy.run_path(str(tmp_path / "notebook.py"))
    assert torch.is_tensor(names["best"]) and "two-way identification 1.00" in names["figures"]
