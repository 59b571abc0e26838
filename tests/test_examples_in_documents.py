"""The Python of docs/embeddings.md, docs/migrate.md and docs/prompt-free-diffusion.md runs as it stands, in
order, on the embedded model."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rounding import assert_rounded

from vd_core import MODEL, load
from vd_core.__main__ import main
from vd_core.embedded import FOLDER
from vd_core.training.dataset import CaptionedPictures

DOCS = Path(__file__).resolve().parents[1] / "docs"
# What the real model or a GPU needs, and what would take long.
SHORTER = {
    'load("shi-labs/versatile-diffusion", dtype=torch.float16, device="cuda")': "load(MODEL)",
    'torch.Generator("cuda")': "torch.Generator()",
    "torch.zeros(1, 4, 64, 64,": "torch.zeros(1, 16, 8, 8,",
    '"ddim", 50': '"ddim", 3',
    '"unipc", 20': '"unipc", 3',
    "count = 16": "count = 3",
    "range(20)": "range(2)",
}


def blocks(page):
    """Return the blocks of Python of a page, made shorter."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with the files that the examples read."""
    vd, data = load(MODEL, parts=["clip_vision", "clip_text"]), CaptionedPictures.load(FOLDER)
    np.save(tmp_path / "image_tokens.npy", vd.encode_image(data.pixels[:2]).tokens.numpy())
    np.save(tmp_path / "text_tokens.npy", vd.encode_text(data.captions[:2]).tokens.numpy())
    for name in ("guess.png", "car.jpg"):
        Image.new("RGB", (90, 70), "red").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_embeddings_of_your_own(place):
    normalise, best, dual, gradients, scores = blocks("embeddings.md")
    names = {}
    for block in (best, dual, gradients):
        exec(compile(block, "embeddings.md", "exec"), names)
    assert all(Image.open(place / name).size == (64, 64) for name in ("row.png", "dual.png"))
    assert names["scores"][names["best"]] == names["scores"].max() and names["tokens"].grad.abs().sum() > 0
    vd, captions = names["vd"], ["red apple, 3d style", "banana"]
    names |= {"captions": captions, "texts": vd.clip.project_ids(vd.clip.tokenize(captions))[0]}
    exec(compile(normalise, "embeddings.md", "exec"), names)
    assert_rounded(names["texts"], vd.encode_text(captions).tokens)
    few = ["--count", "2", "--steps", "2"]
    assert main(["reconstruct", "image_tokens.npy", "--out", "OUT", *few]) == 0
    exec(compile(scores, "embeddings.md", "exec"), names)
    assert list(names["scores"]) == ["000000000", "000000001"]
    assert all(0 < score <= 1 for score in names["scores"].values())


def test_the_script_that_was_one_of_diffusers(place):
    exec(compile(blocks("migrate.md")[0], "migrate.md", "exec"), {"MODEL": MODEL})
    assert Image.open(place / "red car.png").size == (64, 64)


def test_a_seecoder_in_place_of_a_prompt(place):
    Image.new("RGB", (60, 40), "red").save(place / "reference.png")
    (block,) = blocks("prompt-free-diffusion.md")
    exec(compile(block, "prompt-free-diffusion.md", "exec"), {})
    assert Image.open(place / "drawn.png").size == (64, 64)
