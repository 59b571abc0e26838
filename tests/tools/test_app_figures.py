"""What the official app's recipes do on the embedded model."""

import pytest
import torch

from tools.figures.app import Recipes


@pytest.fixture(scope="module")
def recipes():
    with torch.inference_mode():
        yield Recipes(4)


def test_an_edited_caption_says_and_draws_the_new_thing(recipes):
    said, shown, _ = recipes.i2t2i()
    assert said >= 0.25 and shown >= 0.25  # by chance 1 in 128


def test_predicted_contexts_are_decoded_to_their_pictures(recipes):
    assert recipes.decode_predicted(0.5) >= 0.5
