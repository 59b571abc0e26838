"""The judge of drawn pictures: what it learns from, what it is robust to, and how its answers are counted."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import correlate_ranks, judge_pictures, judge_real
from vd_core.training.judge import Judge, judge_losses, spoil, train_judge


@pytest.fixture(scope="module")
def data():
    """Three names as patterns, in two styles: dark on white and light on white; one pair held out from the
    model."""
    axis = torch.linspace(-1, 1, 32)
    x, y = axis.expand(32, 32), axis[:, None].expand(32, 32)
    shapes = torch.stack(
        [(x**2 + y**2 < 0.4), (x.abs() < 0.25) & (y.abs() < 0.9), (x.abs() + y.abs() < 0.9) & (y > 0)]
    ).float()
    images = torch.stack([1 - strength * shape for shape in shapes for strength in (1.0, 0.4)])[
        :, None
    ].expand(-1, 3, -1, -1)
    held_out = torch.tensor([False, False, False, True, False, False])
    name, style = torch.arange(6) // 2, torch.arange(6) % 2
    return CaptionedPictures(
        (images * 255).byte().contiguous(), name, style, held_out, ("dot", "bar", "roof"), ("dark", "light")
    )


class Fixed:
    """A judge that reads what it was told to."""

    def __init__(self, name, style):
        self.answer = torch.tensor(name), torch.tensor(style)

    def read(self, images):
        return self.answer


def test_it_learns_names_and_styles_of_all_pictures(data, tmp_path):
    judge = train_judge(data, tmp_path, steps=60)
    name, style = judge.read(data.pixels)
    assert name.tolist() == data.name.tolist() and style.tolist() == data.style.tolist()
    assert not judge.training
    again = train_judge(data, tmp_path, steps=60)  # only loaded
    assert all(
        torch.equal(a, b)
        for a, b in zip(judge.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_it_sees_the_pairs_that_are_held_out_from_the_model(data):
    seen = []

    class Watching(Judge):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    ((name, loss),) = judge_losses(data)(Watching(3, 2), torch.Generator().manual_seed(0))
    assert name == "judge" and seen == [6] and loss.item() > 0


def test_a_judge_of_other_pictures_is_refused(data, tmp_path):
    train_judge(data, tmp_path, steps=1)
    other = CaptionedPictures(
        255 - data.images, data.name, data.style, data.is_held_out, data.names, data.styles
    )
    with pytest.raises(ValueError, match="Choose an empty folder"):
        train_judge(other, tmp_path, steps=1)


def test_reading_does_not_depend_on_the_batch(data):
    judge = Judge(3, 2)
    images = data.pixels.repeat(50, 1, 1, 1)
    name, style = judge.read(images)
    assert name.shape == style.shape == (300,)
    assert torch.equal(name[:6], judge.read(data.pixels)[0]) and torch.equal(name[294:], name[:6])


def test_spoiled_pictures_stay_pictures_on_white(data):
    spoiled = spoil(data.pixels.repeat(20, 1, 1, 1), torch.Generator().manual_seed(0))
    assert torch.equal(spoiled, spoil(data.pixels.repeat(20, 1, 1, 1), torch.Generator().manual_seed(0)))
    assert spoiled.min() >= 0 and spoiled.max() <= 1 and not torch.equal(spoiled[0], spoiled[6])
    assert spoiled[..., 0, 0].mean() > 0.95
    dark, light = (spoiled[data.style.repeat(20) == style].mean() for style in (0, 1))
    assert dark < light - 0.05  # what tells the styles apart is still there


def test_right_names_right_styles_and_both_are_counted_apart(data):
    own = torch.tensor([0, 1, 2, 3])
    scores = judge_pictures(Fixed([0, 0, 2, 1], [0, 0, 0, 1]), torch.zeros(4, 3, 8, 8), data, own)
    assert scores == {"name": 0.75, "style": 0.75, "both": 0.5, "dark": 0.5, "light": 1.0}


def test_scores_of_real_pictures_stand_beside_chance(data):
    vae = SimpleNamespace(encode=lambda images: images, decode=lambda latents: 1 - latents)
    judge = Fixed(data.name.tolist(), data.style.tolist())
    real = judge_real(judge, SimpleNamespace(image_vae=vae), data)
    assert real["chance"] == pytest.approx(
        {"name": 1 / 3, "style": 1 / 2, "both": 1 / 6, "dark": 1 / 3, "light": 1 / 3}
    )
    assert (
        all(score == 1 for row, scores in real.items() if row != "chance" for score in scores.values())
        and len(real) == 4
    )


def test_rank_correlation():
    columns = torch.tensor([[0.1, 0.9, 0.1], [0.2, 0.8, 0.9], [0.3, 0.7, 0.5]])
    assert correlate_ranks(columns).tolist() == pytest.approx([1, -1, 0.5])


def test_the_command_trains_the_judge_first(data, model, vocabularies, tmp_path, monkeypatch, capsys):
    from vd_core import __main__ as cli
    from vd_core.checkpoints.write import save_model

    data.save(tmp_path)
    save_model(tmp_path / "model.safetensors", model, vocabularies)
    monkeypatch.setattr("vd_core.training.evaluate.SAMPLING", Sampling("dpmpp_2m", steps=2, cfg=2.0))
    monkeypatch.setattr("vd_core.training.judge.train_judge", partial(train_judge, steps=1))
    arguments = [
        "evaluate",
        str(tmp_path / "model.safetensors"),
        "--data",
        str(tmp_path),
        "--judge",
        str(tmp_path / "judge"),
    ]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    rows = ["chance", "real pictures", "real pictures, spoiled", "real pictures, autoencoded"]
    rows += [
        f"{flow}, {part}" for part in ("trained", "held out") for flow in ("text to image", "image variation")
    ]
    for row in rows:
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{row:34}"))
        assert len(line[34:].split()) == 5
    assert (
        "focus 0.0" in printed
        and "rank correlation" in printed
        and (tmp_path / "judge" / "checkpoint.pt").exists()
    )
