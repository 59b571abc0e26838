"""Sentences about inputs that are allowed but do not suit the model."""

import pytest

from vd_core.config import VDConfig


@pytest.fixture
def advice(pack):
    import importlib

    return importlib.import_module(f"{pack.__name__}.nodes.advice")


@pytest.mark.parametrize(
    "shape, cfg, parts",
    [
        ([4, 4, 64, 64], 7.5, []),
        ([4, 4, 128, 96], 15.0, []),  # a hires pass
        ([4, 4, 64, 64], None, []),
        ([4, 4, 8, 8], 7.5, ["trained on pictures of 512x512 pixels and draws 64x64"]),
        ([4, 4, 160, 64], 20.0, ["draws 512x1280", "guidance scale is about 7.5, and cfg is 20"]),
    ],
)
def test_settings_that_do_not_suit_the_real_model(advice, shape, cfg, parts):
    sentence = advice.advise_settings(VDConfig(), "image", shape, cfg)
    assert bool(sentence) == bool(parts) and all(part in sentence for part in parts)


def test_texts_have_no_size(advice):
    assert not advice.advise_settings(VDConfig(), "text", [4, 768, 1, 1], 7.5)


def test_words_that_are_spelled_letter_by_letter(advice):
    known = {"red": 1, "apple": 1, "photograph": 3, "sofa": 4, "style": 1}
    assert not advice.advise_words("red apple, a photograph", lambda word: known[word])
    assert "no word for sofa," in advice.advise_words("red SOFA style of", lambda word: known[word])
