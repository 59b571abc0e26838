"""The figures of few steps: their rows, and that they measure what is drawn."""

import torch

from tools.figures.few_steps import measure, read_row
from vd_core.embedded import FOLDER
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.judge import Judge


def test_rows():
    assert read_row("lcm:4:1.5") == (Sampling("lcm", 4, 1.5), None)
    sampling, lora = read_row("ddgan:2:1:C:/loras/few.safetensors")
    assert sampling == Sampling("ddgan", 2, 1.0) and str(lora) == "C:/loras/few.safetensors"


def test_a_row_measures_both_flows():
    """A judge that knows nothing names by chance; two seeds differ."""
    data = CaptionedPictures.load(FOLDER)
    torch.manual_seed(0)
    judge = Judge(len(data.names), len(data.styles))
    lines = list(measure("ddgan:1:1", judge, data, data.held_out[:6], seeds=2))
    assert [line.partition(":1:1, ")[2].partition(":")[0] for line in lines] == [
        "text to image",
        "image variation",
    ]
    for line in lines:
        assert float(line.partition("name ")[2].split()[0]) < 0.5
        assert float(line.partition("differ by ")[2].split(",")[0]) > 0
