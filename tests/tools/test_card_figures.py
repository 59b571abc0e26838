"""The figures of sharpness and breadth: what they count, with pictures whose answers are known."""

import re

import pytest
import torch
from PIL import Image

from tools.figures import breadth, sharpness
from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.judge import Judge


@pytest.fixture(scope="module")
def data():
    return CaptionedPictures.load(FOLDER)


@pytest.fixture(scope="module")
def judge(data):
    """One that knows nothing."""
    torch.manual_seed(0)
    return Judge(len(data.names), len(data.styles))


@pytest.fixture(scope="module")
def model():
    return load(MODEL)


def test_sharpness_has_a_line_for_the_autoencoder_and_for_each_flow(model, judge, data):
    own = torch.cat([data.train[:3], data.held_out[:3]])
    lines = list(sharpness.measure(model, judge, data, own, seeds=1))
    assert [line.partition(":")[0] for line in lines] == ["autoencoder", "text to image", "image variation"]
    energies = [[float(x) for x in re.findall(r"([\d.]+) ± 0.000(?= /|, Fr)", line)][:2] for line in lines]
    assert all(0.3 < energy < 1.3 for pair in energies for energy in pair)
    psnr = float(re.search(r"PSNR ([\d.]+)", lines[0])[1])
    assert 20 < psnr < 30


def test_a_model_of_real_pictures_is_as_sharp_as_they_are(judge, data):
    """Energy 1, distance 0, PSNR without end."""

    class Perfect:
        class image_vae:
            encode = decode = staticmethod(lambda images: images)

    own = torch.cat([data.train[:3], data.held_out[:3]])
    line = next(sharpness.measure(Perfect, judge, data, own, seeds=1))
    assert line.startswith(
        "autoencoder: PSNR inf dB, Laplacian energy 1.000 ± 0.000 / 1.000 ± 0.000, Fréchet"
    )
    assert abs(float(line.split("Fréchet ")[1].split()[0])) < 1e-3


def test_known_and_unknown_things_are_told_apart(data):
    drawn = []

    def render(character):
        drawn.append(character)
        return None if character == "🍌" else Image.new("RGBA", (8, 8), "red")

    numbers, pictures = breadth.render_known(render, data.names)
    assert len(numbers) == len(data.names) - 1 and data.names.index("banana") not in numbers
    assert pictures.shape == (len(numbers), 3, 64, 64)
    drawn.clear()
    codes = [
        "1f34e",
        "1f34e-200d",
        "41",
        "1f9ff",
        "1f9f8",
        "1f9f7",
    ]  # an apple, two in one, "A", three others
    assert breadth.render_unknown(render, codes, data.names).shape == (3, 3, 64, 64)
    assert drawn == ["🧷", "🧸", "🧿"]


@torch.inference_mode()
def test_captions_of_trained_pictures_name_them_without_doubt(model, data):
    own = data.train[::160]
    said, doubt = breadth.caption(model, data.pixels[own])
    right = [text == data.captions[i] for text, i in zip(said, own.tolist(), strict=True)]
    assert sum(right) >= len(right) - 1 and not doubt.any()


def test_variety_counts_styles(model, judge, data):
    line = breadth.measure_variety(model, judge, data.names[:2], cfg=1.0)
    differ, shown = (float(number) for number in re.search(r"by ([\d.]+) and show ([\d.]+)", line).groups())
    assert differ > 0.05 and 1 <= shown <= 4
