"""Great circles between contexts, and differences of texts."""

import pytest
import torch

from vd_core.context import Context
from vd_core.interpolation import interpolate, interpolate_latents, slerp, text_diff


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B = draw(2, 5, 8), draw(2, 5, 8, seed=1)


def test_ends_are_exact():
    assert torch.equal(slerp(A, B, 0), A) and torch.equal(slerp(A, B, 1), B)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_directions_turn_evenly_and_norms_change_evenly(share):
    between = slerp(A, B, share)

    def angle(x, y):
        return torch.cosine_similarity(x, y, dim=-1).acos()

    torch.testing.assert_close(angle(A, between), share * angle(A, B))
    torch.testing.assert_close(angle(between, B), (1 - share) * angle(A, B))
    torch.testing.assert_close(between.norm(dim=-1), (1 - share) * A.norm(dim=-1) + share * B.norm(dim=-1))


def test_swapping_the_ends_swaps_the_shares():
    torch.testing.assert_close(slerp(A, B, 0.3), slerp(B, A, 0.7))


def test_known_quarter_turn():
    right, up = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(slerp(right, up, 0.5), torch.tensor([0.5**0.5, 0.5**0.5]))


@pytest.mark.parametrize("other", [A * (1 + 1e-9), A * 3, torch.zeros_like(A)])
def test_straight_where_there_is_no_great_circle(other):
    torch.testing.assert_close(slerp(A, other, 0.25), 0.75 * A + 0.25 * other)


def test_opposite_vectors_are_refused():
    with pytest.raises(ValueError, match="exactly opposite"):
        slerp(A, -A, 0.5)


def test_a_context_per_share():
    first, second = Context("text", A[:1], B[:1]), Context("text", B[:1], A[:1])
    between = interpolate(first, second, [0, 0.5, 1])
    assert torch.equal(between.tokens[0], A[0]) and torch.equal(between.tokens[2], B[0])
    torch.testing.assert_close(between.tokens[1], slerp(A[0], B[0], 0.5))
    assert torch.equal(between.unconditional[2], A[0])
    assert interpolate(Context("text", A[:1]), Context("text", B[:1]), [0.5]).null is None


@pytest.mark.parametrize("other", [Context("image", A[:1]), Context("text", A[:1, :4]), Context("text", A)])
def test_contexts_that_do_not_fit_are_refused(other):
    with pytest.raises(ValueError, match="Only two single contexts of one kind and size"):
        interpolate(Context("text", A[:1]), other, [0.5])


def test_a_text_difference_turns_every_token_towards_it():
    context, before, after = Context("image", A, B), draw(1, 8, seed=2), draw(1, 8, seed=3)
    turned = text_diff(context, before, after, 0.4)
    direction = (after - before)[:, None]

    def angle(tokens):
        return torch.cosine_similarity(tokens, direction, dim=-1).acos()

    torch.testing.assert_close(angle(turned.tokens), 0.6 * angle(A))
    torch.testing.assert_close(turned.tokens.norm(dim=-1), A.norm(dim=-1))
    assert turned.null is context.null and turned.kind == "image"


def test_equal_texts_change_nothing():
    context = Context("image", A)
    assert text_diff(context, A[0, :1], A[0, :1], 0.5) is context


def test_latents_without_a_side_are_refused():
    with pytest.raises(ValueError, match="Only two single latents"):
        interpolate_latents(torch.zeros(1, 4, 0, 8), torch.zeros(1, 4, 0, 8), [0.5])
