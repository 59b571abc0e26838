"""Regions: where and when a context acts; and weights: how often a token counts."""

import copy
from functools import partial

import pytest
import torch
from random_tensors import randn64 as randn

from vd_core.config import ScheduleConfig
from vd_core.context import Context, join
from vd_core.diffuser.mixing import add_share, attention_mixing, layer_mixing
from vd_core.regions import Region, compute_local_ratios
from vd_core.sampling.guidance import guide
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SIZE = (6, 8)
LEFT = torch.zeros(1, 1, *SIZE)
LEFT[..., :4] = 1
RIGHT = 1 - LEFT


@pytest.fixture(scope="module")
def diffuser(model):
    return copy.deepcopy(model.diffuser).double()


X = randn(1, 4, *SIZE, seed=1)
TEXT = Context("text", randn(1, 3, 40, seed=2), randn(1, 3, 40, seed=3), weight=0.3)
IMAGE = Context("image", randn(1, 5, 40, seed=4), weight=0.7)


def within(context, **region):
    return Context(context.kind, context.tokens, context.null, context.weight, Region(**region))


def predicted(diffuser, *contexts, t=501):
    return guide(diffuser, SCHEDULE, list(contexts), "image", 3.0)(X, t)


def test_a_mask_of_ones_is_no_mask_to_the_bit(diffuser):
    ones = torch.ones(1, 1, 50, 70)
    plain = predicted(diffuser, TEXT, IMAGE)
    assert torch.equal(predicted(diffuser, within(TEXT, mask=ones), within(IMAGE, mask=ones)), plain)
    assert torch.equal(predicted(diffuser, within(TEXT, mask=ones), IMAGE), plain)


def test_each_of_two_disjoint_regions_sees_its_own_context_alone(diffuser):
    """At every site of the plan: the mixed output is the output of the only context that acts there."""
    layers = [diffuser.context[kind][0] for kind in ("text", "image")]
    h = randn(1, layers[0].proj_in.in_channels, *SIZE, seed=5)
    maps = compute_local_ratios([0.3, 0.7], [Region(LEFT), Region(RIGHT)], 0.5, 1, SIZE)
    bound = [
        partial(layer, context=context.tokens) for layer, context in zip(layers, (TEXT, IMAGE), strict=True)
    ]
    mixed = None
    for layer, share in attention_mixing(bound, maps):
        mixed = add_share(mixed, layer(h), share)
    alone = [layer(h, context.tokens) for layer, context in zip(layers, (TEXT, IMAGE), strict=True)]
    assert torch.equal(mixed[..., :4], alone[0][..., :4]) and torch.equal(mixed[..., 4:], alone[1][..., 4:])


def test_where_no_context_acts_all_do():
    maps = compute_local_ratios([0.3, 0.7], [Region(LEFT), Region(torch.zeros(1, 1, 2, 2))], 0.5, 1, SIZE)
    assert (maps[0][..., :4] == 1).all() and (maps[1][..., :4] == 0).all()
    assert (maps[0][..., 4:] == 0.3).all() and (maps[1][..., 4:] == 0.7).all()


def test_shares_follow_masks_and_ratios_and_add_up_to_1():
    half = torch.full((1, 1, 3, 3), 0.5)
    maps = compute_local_ratios([0.3, 0.5, 0.2], [Region(half), None, Region(LEFT)], 0.5, 1, SIZE)
    torch.testing.assert_close(sum(maps), torch.ones_like(maps[0]), rtol=0, atol=1e-15)
    assert maps[0][0, 0, 0, 0] == pytest.approx(0.15 / 0.85) and maps[0][0, 0, 0, 7] == pytest.approx(
        0.15 / 0.65
    )
    assert (maps[2][..., 4:] == 0).all()


def test_a_mask_is_stretched_over_the_picture():
    wide = torch.zeros(1, 1, 60, 40)
    wide[..., :20] = 1
    assert torch.equal(
        compute_local_ratios([0.5, 0.5], [Region(wide), None], 0, 1, SIZE)[1],
        torch.where(LEFT > 0, 0.5, 1.0).double(),
    )


@pytest.mark.parametrize(
    ("progress", "wanted"),
    [(0.0, [0.3, 0.7]), (0.19, [0.3, 0.7]), (0.2, [0, 1]), (0.59, [0, 1]), (0.6, [1, 0]), (1, [1, 0])],
)
def test_a_context_acts_from_start_to_end(progress, wanted):
    """Before 0.2 none acts, so all do."""
    assert (
        compute_local_ratios([0.3, 0.7], [Region(start=0.6), Region(start=0.2, end=0.6)], progress, 1, ())
        == wanted
    )


def test_regions_act_in_time_on_every_output(diffuser):
    early = [within(TEXT, end=0.5), within(IMAGE, start=0.5)]
    assert torch.equal(predicted(diffuser, *early, t=800), predicted(diffuser, TEXT, t=800))
    assert torch.equal(predicted(diffuser, *early, t=100), predicted(diffuser, IMAGE, t=100))
    denoise = guide(diffuser, SCHEDULE, early, "text", 3.0)
    x = randn(1, 24, seed=6)
    assert torch.equal(denoise(x, 800), guide(diffuser, SCHEDULE, [TEXT], "text", 3.0)(x, 800))


def test_samples_may_have_masks_of_their_own(diffuser):
    masks = torch.cat([LEFT, RIGHT])
    x = torch.cat([X, X])
    both = guide(diffuser, SCHEDULE, [within(TEXT, mask=masks), IMAGE], "image", 3.0)(x, 501)
    for row, mask in zip(both, masks, strict=True):
        torch.testing.assert_close(
            row[None], predicted(diffuser, within(TEXT, mask=mask[None]), IMAGE), rtol=0, atol=1e-9
        )


def weighted(*weights, context=TEXT, **fields):
    return Context(
        context.kind, context.tokens, context.null, token_weights=torch.tensor([weights]), **fields
    )


def chosen(*numbers):
    """Return the text's tokens with these numbers."""
    return Context("text", TEXT.tokens[:, list(numbers)], TEXT.null[:, list(numbers)])


def test_weights_1_changes_nothing(diffuser):
    torch.testing.assert_close(
        predicted(diffuser, weighted(1.0, 1, 1)), predicted(diffuser, chosen(0, 1, 2)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("weights", "numbers"), [((1.0, 0, 1), (0, 2)), ((1.0, 1, 2), (0, 1, 2, 2)), ((0.0, 3, 0), (1,))]
)
def test_weights_counts_tokens(diffuser, weights, numbers):
    """0 removes a token, 2 doubles it: the very softmax over the tokens that are left."""
    both = weighted(*weights, null_token_weights=torch.tensor([weights]))
    torch.testing.assert_close(
        predicted(diffuser, both), predicted(diffuser, chosen(*numbers)), rtol=0, atol=1e-9
    )


def test_weights_of_the_prompt_leaves_the_unconditional_alone(diffuser):
    alone = guide(diffuser, SCHEDULE, [TEXT], "image", 0.0)(X, 501)
    assert torch.equal(guide(diffuser, SCHEDULE, [weighted(1.0, 0, 5)], "image", 0.0)(X, 501), alone)


def test_join_keeps_the_weights():
    joined = join([weighted(1.0, 0, 2), chosen(0, 1)])
    assert joined.token_weights.tolist() == [[1, 0, 2, 1, 1]] and joined.null_token_weights is None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Region(torch.ones(3, 3)), r"must be \[1 or batch, 1, height, width\], got \[3, 3\]"),
        (lambda: Region(start=0.5, end=0.5), "got 0.5 to 0.5"),
        (lambda: Region(end=1.5), "got 0.0 to 1.5"),
        (lambda: compute_local_ratios([1.0], [Region(LEFT)], 0.5, 1, ()), "pictures only"),
        (
            lambda: compute_local_ratios([1.0], [Region(torch.cat([LEFT, RIGHT]))], 0.5, 3, SIZE),
            "2 masks for 3 samples",
        ),
        (lambda: weighted(1.0, 1), r"one per token, \[batch, 3\], got \[1, 2\]"),
        (lambda: weighted(1.0, -1, 1), "numbers ≥ 0"),
        (lambda: weighted(0.0, 0, 0), "not 0 for all"),
        (lambda: join([within(TEXT, mask=LEFT), TEXT]), "cannot be joined"),
        (lambda: layer_mixing(0)([], [LEFT]), "cannot have regions with masks"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
