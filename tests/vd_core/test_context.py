"""Contexts and their algebra."""

import numpy as np
import pytest
import torch

from vd_core.context import Context, average, blend, compute_ratios, join


def context(kind="image", batch=1, tokens=3, width=4, **fields):
    return Context(
        kind, torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(tokens)), **fields
    )


A, B, C = context(tokens=2), context("text", tokens=3), context(tokens=4)


def shares(contexts):
    return {id(c.tokens): ratio for c, ratio in zip(contexts, compute_ratios(contexts), strict=True)}


def expected(**weights):
    return {
        id({"a": A, "b": B, "c": C}[name].tokens): pytest.approx(weight) for name, weight in weights.items()
    }


def test_ratios_are_relative():
    assert compute_ratios([context(weight=3), context(weight=1)]) == [0.75, 0.25]
    assert compute_ratios([context(weight=0), context(weight=0.2)]) == [0, 1]


def test_blend_of_two():
    assert shares(blend([A], [B], 0.3)) == expected(a=0.7, b=0.3)
    assert [c.kind for c in blend([A], [B], 0.3)] == ["image", "text"]


def test_chained_blends_multiply_through():
    assert shares(blend(blend([A], [B], 0.25), [C], 0.4)) == expected(a=0.6 * 0.75, b=0.6 * 0.25, c=0.4)
    assert shares(blend([A], blend([B], [C], 0.25), 0.4)) == expected(a=0.6, b=0.4 * 0.75, c=0.4 * 0.25)


def test_a_blend_does_not_depend_on_the_scale_of_weights():
    heavy = [Context(c.kind, c.tokens, weight=10 * weight) for c, weight in ((A, 1), (B, 3))]
    assert shares(blend(heavy, [C], 0.5)) == expected(a=0.125, b=0.375, c=0.5)


@pytest.mark.parametrize(("ratio", "left"), [(0, A), (1, B)])
def test_a_side_without_share_is_left_out(ratio, left):
    assert [(c.tokens is left.tokens, c.weight) for c in blend([A], [B], ratio)] == [(True, 1)]


def test_a_blend_keeps_the_unconditional_tokens():
    null = torch.ones(1, 2, 4)
    assert blend([Context("image", A.tokens, null)], [B], 0.5)[0].null is null


def test_unconditional_tokens_are_zeros_unless_given():
    assert torch.equal(A.unconditional, torch.zeros(1, 2, 4))
    null = torch.ones(1, 2, 4)
    assert Context("image", A.tokens, null).unconditional is null


def test_join_scales_and_concatenates_the_tokens():
    joined = join([Context("image", A.tokens, weight=0.5), C])
    assert joined.kind == "image" and joined.weight == 1 and joined.null is None
    assert torch.equal(joined.tokens, torch.cat([0.5 * A.tokens, C.tokens], dim=1))


def test_join_keeps_unconditional_tokens_unscaled():
    null = torch.ones(1, 2, 4)
    joined = join([Context("image", A.tokens, null, weight=0.5), C])
    assert torch.equal(joined.unconditional, torch.cat([null, torch.zeros(1, 4, 4)], dim=1))


def test_join_repeats_a_single_sample():
    many = context(batch=3, tokens=5)
    joined = join([A, many])
    assert torch.equal(joined.tokens, torch.cat([A.tokens.repeat(3, 1, 1), many.tokens], dim=1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Context("image", torch.zeros(3, 4)),
            r"needs tokens \[batch, tokens, width\], got shape \(3, 4\)",
        ),
        (lambda: Context("image", torch.zeros(1, 0, 4)), "needs tokens"),
        (
            lambda: Context("image", np.zeros((1, 3, 4))),
            "must be a torch tensor, got ndarray: torch.as_tensor",
        ),
        (
            lambda: Context("image", torch.zeros(1, 3, 4), np.zeros((1, 3, 4))),
            "The null of a image context must be a torch tensor",
        ),
        (
            lambda: Context("image", torch.zeros(1, 3, 4), torch.zeros(1, 2, 4)),
            "which do not fit together: take both from one model",
        ),
        (
            lambda: Context("image", torch.zeros(2, 3, 4), torch.zeros(5, 3, 4)),
            "which do not fit together: take both from one model",
        ),
        (lambda: context(weight=-0.1), "a number ≥ 0, got -0.1"),
        (lambda: context(weight=float("nan")), "a number ≥ 0, got nan"),
        (lambda: context(weight=float("inf")), "a number ≥ 0, got inf"),
        (lambda: compute_ratios([]), "at least one context"),
        (lambda: compute_ratios([context(weight=0)]), "a weight above 0"),
        (lambda: blend([A], [B], 1.1), "lies between 0 and 1, got 1.1"),
        (lambda: blend([A], [B], float("nan")), "lies between 0 and 1, got nan"),
        (lambda: blend([A], [], 0.5), "at least one context"),
        (lambda: join([A, B]), "one kind can be joined, got image and text"),
        (lambda: join([]), "one kind can be joined"),
        (lambda: join([context(batch=2), context(batch=3)]), "Contexts of 2 and of 3 samples"),
        (lambda: join([context(width=4), context(width=5)]), "Contexts of widths 4 and 5"),
        (lambda: average(context(width=4), context(width=5), 0.5), "Contexts of widths 4 and 5"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
