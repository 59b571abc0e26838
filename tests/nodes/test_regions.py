"""Region (VD), guidance per context and weights in prompts, end to end on the embedded model."""

import pytest
import torch

from tools.figures.regions import (
    HALVES,
    PROMPTS,
    blend,
    blend_guided,
    draw,
    encode_text,
    join_weighted,
    load,
    measure_likeness,
    place,
)


@pytest.fixture(scope="module")
def embedded(nodes):
    return load(nodes)


def test_each_half_shows_its_own_prompt(nodes, embedded):
    regions = [
        place(nodes, encode_text(nodes, embedded, text), **half)
        for text, half in zip(PROMPTS, HALVES, strict=True)
    ]
    pictures = draw(nodes, embedded, blend(nodes, *regions), width=16)
    left, right = (measure_likeness(embedded, half, PROMPTS) for half in pictures.split(64, dim=2))
    assert (left[:, 0] > left[:, 1] + 0.1).all() and (right[:, 1] > right[:, 0] + 0.1).all(), (left, right)


def test_a_mask_says_the_same_as_its_box(nodes, embedded):
    mask = torch.zeros(1, 64, 128)
    mask[..., :64] = 1
    ways = [{"mask": mask}, {"width": 0.5}, {"mask": torch.ones(1, 512, 512), "width": 0.5}]
    other = encode_text(nodes, embedded, PROMPTS[1])
    boxes = [
        blend(nodes, place(nodes, encode_text(nodes, embedded, PROMPTS[0]), **way), other) for way in ways
    ]
    pictures = [draw(nodes, embedded, box, width=16, steps=2) for box in boxes]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[1], pictures[2])


def test_the_whole_picture_all_the_time_is_no_region(nodes, embedded):
    context = encode_text(nodes, embedded, PROMPTS[0])
    assert torch.equal(
        draw(nodes, embedded, place(nodes, context), steps=2), draw(nodes, embedded, context, steps=2)
    )


def test_weights_of_1_change_nothing_and_others_do(nodes, embedded):
    plain, same, other = (
        draw(nodes, embedded, encode_text(nodes, embedded, text), steps=3)
        for text in ("red apple, 3d style", "red (apple:1), 3d style", "red (apple:4), 3d style")
    )
    assert torch.equal(plain, same) and not torch.equal(plain, other)


@pytest.mark.parametrize(("context", "values"), [(join_weighted, (0.1, 4)), (blend_guided, (0, 3))])
def test_a_stronger_prompt_is_followed_more(nodes, embedded, context, values):
    """Of two prompts, the weight or the guidance of the first decides which is drawn."""
    low, high = (
        measure_likeness(embedded, draw(nodes, embedded, context(nodes, embedded, value)), PROMPTS).mean(
            dim=0
        )
        for value in values
    )
    assert high[0] > low[0] and high[1] < low[1], (low, high)


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        ({"width": 0.0}, "must hold some of the picture, got x 0.0, y 0.0, width 0.0"),
        ({"x": 1.0}, "must hold some of the picture"),
        ({"start": 0.7, "end": 0.2}, "got 0.7 to 0.2"),
    ],
)
def test_refusals(nodes, embedded, region, sentence):
    with pytest.raises(ValueError, match=sentence):
        place(nodes, encode_text(nodes, embedded, "red apple"), **region)
