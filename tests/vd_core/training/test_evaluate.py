"""The figures of the model card: each measure on made-up values, and the whole on a tiny model with random
weights."""

import json
from types import SimpleNamespace

import pytest
import torch

from vd_core import __main__ as cli
from vd_core.checkpoints.write import save_model
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures, write_caption
from vd_core.training.evaluate import measure_agreement, measure_blend_path, measure_nearest, write_table


@pytest.fixture(scope="module")
def data():
    """Six pictures: two names in three styles, one pair held out."""
    images = torch.randint(
        0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    name, style = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 0, 1, 2])
    held_out = torch.tensor([False, False, False, False, True, False])
    return CaptionedPictures(
        images, name, style, held_out, ("red apple", "cat's hat"), ("noto", "flat", "3d")
    )


def test_pictures_survive_saving(data, tmp_path):
    data.save(tmp_path, columns=4)
    loaded = CaptionedPictures.load(tmp_path)
    assert torch.equal(loaded.images, data.images) and loaded.captions == data.captions
    assert torch.equal(loaded.is_held_out, data.is_held_out)
    assert loaded.train.tolist() == [0, 1, 2, 3, 5] and loaded.held_out.tolist() == [4]


def test_missing_pictures_say_how_to_build_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m vd_core.training.emoji"):
        CaptionedPictures.load(tmp_path)


def test_nearest_ranks_the_own_picture():
    latents = torch.arange(10.0)[:, None]
    own = torch.tensor([0, 3, 9])
    assert measure_nearest(latents[own] + 0.1, latents, own) == {"top-1": 1.0, "top-5": 1.0}
    assert measure_nearest(torch.tensor([[2.0], [3.0], [0.0]]), latents, own) == {
        "top-1": 0.333,
        "top-5": 0.667,
    }


def test_agreement_counts_names_and_styles_apart():
    captions = [
        write_caption("red apple", "noto"),
        write_caption("red apple", "flat"),
        write_caption("cat", "3d"),
    ]
    sentences = [captions[0], write_caption("pear", "flat"), write_caption("cat", "noto")]
    assert measure_agreement(sentences, captions) == {"exact": 0.333, "name": 0.667, "style": 0.667}


def test_blend_path_goes_from_the_picture_to_the_text(data, monkeypatch):
    latents = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    model = SimpleNamespace(encode_image=lambda images: "image", encode_text=lambda texts: "text")
    images = data.train[:4]
    texts = images.roll(2)
    monkeypatch.setattr("vd_core.training.evaluate.blend", lambda first, second, ratio: ratio)
    monkeypatch.setattr(
        "vd_core.training.evaluate.draw",
        lambda model, ratio, like: torch.lerp(latents[images], latents[texts], ratio),
    )
    path = measure_blend_path(model, data, latents, images)
    assert list(path.values()) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0] and list(path)[-1] == "rank correlation"


def test_command_prints_the_figures(data, model, vocabularies, tmp_path, monkeypatch, capsys):
    data.save(tmp_path)
    save_model(tmp_path / "model.safetensors", model, vocabularies)
    monkeypatch.setattr("vd_core.training.evaluate.SAMPLING", Sampling("dpmpp_2m", steps=2, cfg=2.0))
    assert cli.main(["evaluate", str(tmp_path / "model.safetensors"), "--data", str(tmp_path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["trained"]["pairs"] == 5 and figures["held out"]["pairs"] == 1
    for part in ("trained", "held out"):
        assert figures[part]["autoencoder PSNR"] > 0
        assert all(
            0 <= value <= 1
            for flow in ("text to image", "image to text")
            for value in figures[part][flow].values()
        )
    assert all(0 <= value <= 1 for value in figures["trained"]["clip finds"].values())
    assert len(write_table(figures).splitlines()) == 2 + 15 + 4 + 3 + 1


def test_commands_refuse_with_one_sentence(tmp_path, capsys):
    assert cli.main(["evaluate", str(tmp_path / "no.safetensors")]) == 1
    assert "no.safetensors" in capsys.readouterr().err
    assert cli.main(["small-model", str(tmp_path / "run"), "--steps", "poem=3"]) == 1
    assert "image_vae, clip, text_vae, diffuser, captioner" in capsys.readouterr().err
