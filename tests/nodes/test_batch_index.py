"""Samples of a batch drawn alone: `batch_index` of a LATENT, as core's Latent From Batch and Latent Batch
Seed Behavior set it."""

import importlib

import pytest
import torch
from node_calls import EMPTY, draw, text
from rounding import assert_rounded

from vd_core.sampling.noise import make_noise

SHAPE = (4, 4, 8, 8)


def empty(batch_index):
    """Return an empty LATENT with these samples of a batch."""
    return {"samples": EMPTY["samples"][:1].expand(len(batch_index), -1, -1, -1), "batch_index": batch_index}


@pytest.mark.parametrize("kind", ["per sample", "official", "shared"])
@pytest.mark.parametrize("rows", [[2], [3, 1], [1, 1, 0], [0, 1, 2, 3]])
def test_noise_of_some_rows_is_that_of_the_whole_batch_bit_for_bit(kind, rows):
    whole, some = make_noise(7, kind), make_noise(7, kind, rows)
    first, again = whole.draw(SHAPE), whole.draw(SHAPE)
    assert torch.equal(some.draw((len(rows), *SHAPE[1:])), first[rows])
    if kind != "official" or max(rows) == 3:
        assert torch.equal(some.draw((len(rows), *SHAPE[1:])), again[rows])


@pytest.mark.parametrize(
    "options", [{"noise": "per sample", "eta": 0.5}, {"noise": "official"}, {"noise": "shared"}]
)
def test_picture_3_of_4_is_drawn_again_alone(nodes, loaded, options):
    contexts = text(nodes, loaded)
    whole = draw(nodes, loaded, contexts, empty([0, 1, 2, 3]), **options)
    same = draw(nodes, loaded, contexts, empty([3, 2, 1, 0]), **options)
    assert torch.equal(same, whole.flip(0))
    alone = draw(nodes, loaded, contexts, empty([2]), **options)
    scale = whole.abs().max()
    assert_rounded(alone, whole[2:3])  # the same noise
    assert options["noise"] == "shared" or (alone - whole[:1]).abs().max() > 0.1 * scale


def test_a_fixed_seed_makes_all_pictures_alike(nodes, loaded):
    whole = draw(nodes, loaded, text(nodes, loaded), empty([1, 1]), eta=0.5)
    assert torch.equal(whole[0], whole[1])


def test_official_noise_on_the_way_needs_the_whole_batch(nodes, loaded):
    with pytest.raises(
        ValueError, match=r"sample 2 of a batch cannot be drawn without the others.*“per sample”"
    ):
        draw(nodes, loaded, text(nodes, loaded), empty([2]), noise="official", eta=0.5)
    draw(nodes, loaded, text(nodes, loaded), empty([0, 1]), noise="official", eta=0.5)


def test_an_index_for_another_batch_is_refused(nodes, loaded):
    latent = {"samples": EMPTY["samples"][:1], "batch_index": [0, 1]}
    with pytest.raises(
        ValueError, match=r"latent_image holds 1 samples, but its batch_index \[0, 1\] is for others"
    ):
        draw(nodes, loaded, text(nodes, loaded), latent)


def test_words_of_a_text_are_those_that_it_has_in_its_batch(pack):
    latents = importlib.import_module(f"{pack.__name__}.nodes.latents")
    whole = latents.make_word_generators(5, {"samples": torch.zeros(3, 24, 1, 1)}, official=False)
    alone = latents.make_word_generators(
        5, {"samples": torch.zeros(1, 24, 1, 1), "batch_index": [2]}, official=False
    )
    assert torch.equal(torch.rand(9, generator=alone[0]), torch.rand(9, generator=whole[2]))
