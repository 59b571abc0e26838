"""Embeddings of other programs through the nodes, as brain decoding feeds them: a batch of predictions, one
sample each."""

import numpy as np
import pytest
import torch
from rounding import assert_rounded
from safetensors.torch import save_file

from vd_core.sampling.schedule import count_fidelity_steps

PEOPLE, WIDTH = 3, 40
TOKENS = torch.randn(PEOPLE, 17, WIDTH, generator=torch.Generator().manual_seed(0))
TOKENS = TOKENS / TOKENS[:, :1].norm(dim=-1, keepdim=True)
WRITERS = {
    "npy": lambda path, tokens: np.save(path, tokens.numpy()),
    "pt": lambda path, tokens: torch.save(tokens, path),
    "safetensors": lambda path, tokens: save_file({"prediction": tokens.contiguous()}, path),
}


@pytest.fixture
def read(nodes, loaded, tmp_path, monkeypatch):
    """Write tokens as a file and loads it -> (positive, negative)."""
    monkeypatch.setenv("VD_MODELS", str(tmp_path))

    def load(tokens, ending="npy", kind="image", **options):
        WRITERS[ending](tmp_path / f"predicted.{ending}", tokens)
        return nodes["VD_LoadContext"](file=f"predicted.{ending}", kind=kind, **options)

    return load


def draw(nodes, loaded, context, batch, **options):
    """Latents under a context."""
    latent = {"samples": torch.zeros(batch, 4, 8, 8)}
    sides = {"positive": context[0], "negative": context[1]}
    return nodes["VD_Sampler"](
        model=loaded["image_model"], latent_image=latent, seed=3, **{"steps": 2, **options}, **sides
    )[0]["samples"]


@pytest.mark.parametrize("ending", list(WRITERS))
def test_a_batch_of_predictions_is_a_batch_of_contexts(read, ending):
    """Every row to the bit as it stands in the file, and as it is loaded alone; what the file does not say is
    zeros."""
    positive, negative = read(TOKENS, ending)
    assert torch.equal(positive[0][0], TOKENS) and torch.equal(negative[0][0], torch.zeros_like(TOKENS))
    for row in range(PEOPLE):
        assert torch.equal(read(TOKENS[row], ending)[0][0][0], positive[0][0][row : row + 1])


def test_each_prediction_makes_its_own_sample(nodes, loaded, read):
    """Whoever comes first draws what he draws alone, up to the rounding of larger matrix products; the others
    differ from him."""
    alone = [draw(nodes, loaded, read(TOKENS[row]), 1) for row in range(PEOPLE)]
    for row in range(PEOPLE):
        batch = draw(nodes, loaded, read(TOKENS.roll(-row, 0)), PEOPLE)
        assert_rounded(batch[:1], alone[row])
    assert (alone[0] - alone[1]).abs().max() > 0.1


def test_pictures_and_texts_of_the_same_people_are_blended_row_by_row(nodes, loaded, read):
    """Brain-Diffuser's mixture, its empty prompt as what to move away from."""
    empty = nodes["VD_TextContext"](clip=loaded["clip"], text="")
    count = empty[0][0][0].shape[1]
    words = torch.randn(PEOPLE, count, WIDTH, generator=torch.Generator().manual_seed(1))
    words = words / words[:, :1].norm(dim=-1, keepdim=True)
    pictures, texts = read(TOKENS), read(words, kind="text")
    options = {"positive_2": texts[0], "negative_2": empty[0], "ratio": 0.4}
    positive, negative = nodes["VD_Blend"](positive_1=pictures[0], negative_1=pictures[1], **options)
    assert torch.equal(positive[0][0], torch.cat([TOKENS, words], dim=1))
    assert torch.equal(negative[0][0][:, 17:], empty[0][0][0].expand(PEOPLE, -1, -1))
    assert [part.ratio for part in positive[0][1]["vd_layout"]] == [0.6, 0.4]
    assert draw(nodes, loaded, (positive, negative), PEOPLE).shape == (PEOPLE, 4, 8, 8)


def test_strength_075_of_brain_diffuser_is_37_of_50_steps():
    assert count_fidelity_steps(50, 1 - 0.75) == 37


def test_what_cannot_be_a_context_of_the_model_is_said_in_a_sentence(nodes, loaded, read):
    with pytest.raises(ValueError, match="has norm 2 where CLIP's has 1: divide .* switch normalise of Load"):
        read(2 * TOKENS)
    torch.testing.assert_close(read(2 * TOKENS, normalise=True)[0][0][0], TOKENS)
    with pytest.raises(ValueError, match="does not say what kind of context it holds: choose text or image"):
        read(TOKENS, kind="as saved")
    with pytest.raises(ValueError, match=f"read tokens of width {WIDTH}, got {WIDTH - 8}"):
        draw(nodes, loaded, read(TOKENS[..., :-8], normalise=True), PEOPLE)
    with pytest.raises(ValueError, match="has 3 samples, the latent has 2"):
        draw(nodes, loaded, read(TOKENS), 2)
