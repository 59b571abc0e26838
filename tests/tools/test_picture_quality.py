"""The measures of drawn pictures, against what is known in closed form."""

import pytest
import torch

from tools.figures.picture_quality import (
    PLAIN,
    compute_features,
    frechet_distance,
    measure_hue,
    measure_hue_error,
    measure_seed_difference,
    measure_sharpness,
)
from vd_core.training.emoji import NAMES
from vd_core.training.judge import Judge


def test_laplacian_energy():
    flat, dot = torch.full((1, 3, 8, 8), 0.3), torch.zeros(1, 3, 7, 7)
    dot[..., 3, 3] = 1.0
    ramp = torch.arange(8.0).expand(1, 3, 8, 8) / 8
    assert measure_sharpness(flat).item() == pytest.approx(0, abs=1e-10) and measure_sharpness(
        ramp
    ).item() == pytest.approx(0, abs=1e-10)
    # -4 in the middle and 1 beside it, of 5 x 5 places
    assert measure_sharpness(dot).item() == pytest.approx((16 + 4) / 25)


def test_frechet_distance_of_normal_features():
    """Of N(0, diag(a)) and N(m, diag(b)) it is |m|² + Σ (sqrt a - sqrt b)²."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64, generator=generator)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T  # moments exactly 0 and 1
    y = x * torch.tensor([2.0, 1.0, 0.5]) + torch.tensor([1.0, 0.0, -2.0])
    assert frechet_distance(x, y) == pytest.approx(5 + 1 + 0 + 0.25, rel=1e-6)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))[0]
    assert frechet_distance(x @ rotation, y @ rotation) == pytest.approx(6.25, rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x[:2]) > 0  # fewer pictures than features


def test_features_are_one_row_for_each_picture():
    judge = Judge(3, 2)
    pictures = torch.rand(5, 3, 64, 64)
    assert compute_features(judge, pictures).shape == (5, 256)
    assert not torch.allclose(compute_features(judge, pictures)[0], compute_features(judge, pictures)[1])


def test_hues():
    colours = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]])[
        :, :, None, None
    ].expand(-1, -1, 4, 4)
    assert measure_hue(colours).tolist() == pytest.approx([0, 60, 120, 240, 300], abs=1e-3)
    small = torch.ones(1, 3, 8, 8)
    small[..., 2:4, 2:4] = colours[2:3, :, :2, :2]
    assert measure_hue(small).item() == pytest.approx(120, abs=1e-3)  # white around it does not count
    assert measure_hue_error(colours[[0, 4, 1]], colours[[4, 0, 1]]).tolist() == pytest.approx(
        [60, 60, 0], abs=1e-3
    )


def test_seed_difference():
    pictures = torch.stack([torch.full((2, 3, 4, 4), value) for value in (0.0, 0.5, 1.0)])
    assert measure_seed_difference(pictures) == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_ten_things_of_one_colour():
    assert len(set(PLAIN)) == 10 and set(PLAIN) <= {name for name, _ in NAMES}
