"""Focus: the factors of the leading components, and what the truth says about the tokens that come out."""

import pytest
import torch
from rounding import assert_rounded

from vd_core.encoders.focus import compute_factors, focus, keep_leading_components

LEVELS = [0.0, 0.1, 0.49, 0.51, 0.8, 1.0]


def centred(tokens):
    """Each token without its mean over the features: what is decomposed."""
    return tokens - tokens.mean(dim=-1, keepdim=True)


def singular_values(tokens):
    return torch.linalg.svdvals(centred(tokens))


@pytest.fixture
def tokens():
    """[2, 64, 48] whose singular values decay, of unlike sizes."""
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(2, 64, 48, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(2, 48, 48, generator=generator)).Q
    return (u * 0.8 ** torch.arange(48.0)) @ v * torch.tensor([1.0, 30.0])[:, None, None] + 0.1


@pytest.mark.parametrize("level", LEVELS)
def test_each_sample_for_itself(tokens, level):
    alone = torch.cat([focus(sample[None], level) for sample in tokens])
    assert_rounded(focus(tokens, level), alone)


@pytest.mark.parametrize("level", LEVELS)
def test_the_spread_of_each_sample_is_restored(tokens, level):
    torch.testing.assert_close(focus(tokens, level).std(dim=(1, 2)), tokens.std(dim=(1, 2)))


@pytest.mark.parametrize("level", LEVELS)
def test_scaling_the_tokens_scales_the_result(tokens, level):
    assert_rounded(focus(4 * tokens, level), 4 * focus(tokens, level))


def test_the_middle_changes_nothing(tokens):
    assert torch.equal(focus(tokens, 0.5), tokens)
    assert torch.equal(compute_factors(0.5), torch.ones(20))


def test_towards_semantics_the_two_leading_components_vanish(tokens):
    before, after = singular_values(tokens), singular_values(focus(tokens, 0.0))
    # the rest moves up, all of it scaled alike; centred tokens of width 48 have rank 47
    ratio = after[:, :45] / before[:, 2:47]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-2, atol=0)
    assert (after[:, 45:] < 1e-4 * after[:, :1]).all()


def test_towards_style_the_five_leading_components_remain(tokens):
    before, after = singular_values(tokens), singular_values(focus(tokens, 1.0))
    ratio = after[:, :5] / before[:, :5]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4, atol=0)
    assert (after[:, 5:] < 1e-4 * after[:, :1]).all()


def test_quirk_above_the_middle_the_remainder_goes_at_once(tokens):
    """Just above 0.5 all 20 leading components stay and nothing behind them; just below everything does."""
    above, below = singular_values(focus(tokens, 0.5 + 1e-6)), singular_values(focus(tokens, 0.5 - 1e-6))
    assert (above[:, 19] > 1e-3 * above[:, 0]).all() and (above[:, 20:] < 1e-4 * above[:, :1]).all()
    torch.testing.assert_close(below, singular_values(tokens), rtol=1e-3, atol=1e-5)


def test_factors_at_the_ends():
    assert compute_factors(0.0).tolist() == [0.0, 0.0] + [1.0] * 18
    assert compute_factors(1.0).tolist() == [1.0] * 5 + [0.0] * 15


def test_factors_between_the_ends():
    """Worked by hand. Below: g = 1 - (1 - 1/e)/4 makes y0 = 0.5, so 0.5 and 0.75. Above: y0 = -7, so 1 - 8 (i
    - 4)/15, at least 0."""
    below = 0.5 + torch.tensor(1 - (1 - torch.e**-1) / 4).log().item() / 2
    torch.testing.assert_close(compute_factors(below)[:3], torch.tensor([0.5, 0.75, 1.0]))
    above = 0.5 + torch.tensor((1 + torch.e) / 2).log().item() / 2
    expected = torch.tensor([max(0.0, -7 + 8 * (19 - i) / 15) for i in range(5, 20)])
    torch.testing.assert_close(compute_factors(above)[5:], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [-0.1, 0.1])
def test_factors_fall_as_the_level_leaves_the_middle(step):
    rows = torch.stack([compute_factors(0.5 + step * i) for i in range(6)])
    assert (rows.diff(dim=0) <= 1e-6).all() and (rows >= 0).all() and (rows <= 1 + 1e-6).all()
    assert (rows.diff(dim=0).sum(dim=1) < 0).all()


def test_rank_and_dropped_components_can_be_chosen(tokens):
    assert compute_factors(0.0, rank=6, drop=(3, 2)).tolist() == [0.0] * 4 + [1.0] * 2
    assert compute_factors(1.0, rank=6, drop=(3, 2)).tolist() == [1.0] * 2 + [0.0] * 4
    after = singular_values(focus(tokens, 1.0, rank=6, drop=(3, 2)))
    assert (after[:, 1] > 0.1 * after[:, 0]).all() and (after[:, 2:] < 1e-4 * after[:, :1]).all()


@pytest.mark.parametrize("shape", [(1, 16, 40), (2, 64, 12), (1, 5, 40), (1, 3, 40)])
@pytest.mark.parametrize("level", LEVELS)
def test_fewer_tokens_or_features_than_components(shape, level):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    y = focus(x, level)
    assert y.shape == shape and y.isfinite().all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_tokens_that_are_all_alike_stay(level, value):
    """A picture that is masked as a whole has zeros for tokens."""
    x = torch.full((1, 64, 48), value)
    torch.testing.assert_close(focus(x, level), x)


def test_half_precision_is_computed_in_float32(tokens):
    half = tokens.half()
    assert torch.equal(focus(half, 0.2), focus(half.float(), 0.2).half())


@pytest.mark.parametrize("level", [-0.01, 1.01, float("nan")])
def test_levels_outside_the_range_are_refused(tokens, level):
    with pytest.raises(ValueError, match="between 0"):
        focus(tokens, level)


@pytest.mark.parametrize("shape", [(64, 48), (0, 64, 48), (1, 0, 48)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="acts on tokens"):
        focus(torch.zeros(shape), 0.5)


def test_values_that_are_not_finite_are_refused(tokens):
    tokens = tokens.clone()
    tokens[0, 0, 0] = float("nan")
    for change in (lambda: focus(tokens, 1.0), lambda: keep_leading_components(tokens, 3)):
        with pytest.raises(ValueError, match="not finite numbers, so it has no focus"):
            change()
