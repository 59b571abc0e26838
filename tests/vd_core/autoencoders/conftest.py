"""A text autoencoder whose sentences differ."""

import copy

import pytest
import torch


@pytest.fixture(scope="module")
def optimus(model):
    """Weights as small as BERT and GPT-2 start with hardly tell texts apart: these are larger."""
    optimus = copy.deepcopy(model.text_vae)
    for parameter in optimus.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4)
    optimus.decoder.wte.weight[optimus.words.eos] = 0  # or it ends at once
    return optimus


@pytest.fixture(scope="module")
def tokens(optimus):
    return torch.tensor([optimus.words.encode("red apple, noto style")[:5]] * 3)
