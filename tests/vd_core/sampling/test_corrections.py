"""Guidance in an interval, rescaled and thresholded: closed forms, bounds, and settings that change no
bit."""

import pytest
import torch
from plain_diffuser import plainly
from random_tensors import randn

from vd_core.config import ScheduleConfig
from vd_core.context import Context
from vd_core.sampling import corrections
from vd_core.sampling.corrections import PLAIN, GuidanceOptions
from vd_core.sampling.generate import generate
from vd_core.sampling.guidance import guide
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import SAMPLERS, predict_x0
from vd_core.sampling.schedule import Schedule
from vd_core.sampling.spacing import choose_steps, warm_up

SCHEDULES = [Schedule(ScheduleConfig(prediction=prediction)) for prediction in ("eps", "v")]
SHAPES = {"image": (2, 4, 6, 8), "text": (2, 32)}


CONTEXTS = [
    Context("text", randn(1, 3, 40, seed=1), randn(1, 3, 40, seed=2), guidance=2.0),
    Context("image", randn(2, 5, 40, seed=3), weight=3),
]


class Counting:
    """Stands in for the diffuser: predictions that depend on everything, and how many evaluations each call
    asked for."""

    def __init__(self):
        self.evaluations = []

    def __call__(self, x, t, contexts, data):
        self.evaluations.append(len(x) // 2)
        means = sum(context.weight * context.tokens.mean(dim=(1, 2)) for context in contexts)
        return (x + 20 * means.reshape(-1, *[1] * (x.ndim - 1))).sin()


def sampled(
    guidance,
    cfg=7.5,
    data="image",
    sampler="ddim",
    contexts=CONTEXTS,
    schedule=SCHEDULES[1],
    diffuser=None,
    steps=10,
):
    """Return a sample with these options."""
    denoise = guide(plainly(diffuser or Counting()), schedule, contexts, data, cfg, guidance=guidance)
    return generate(denoise, schedule, torch.zeros(SHAPES[data]), sample_noise(0), Sampling(sampler, steps))


def data_of(guidance, cfg=7.5, data="image", t=501, schedule=SCHEDULES[1], contexts=CONTEXTS):
    """Return the data that one guided step predicts."""
    x = randn(*SHAPES[data], seed=5)
    eps = guide(plainly(Counting()), schedule, contexts, data, cfg, guidance=guidance)(x, t)
    return predict_x0(x, eps, schedule.alphas_cumprod[t].item()), x


# Formulas


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.995, 1.0])
def test_the_percentile_is_that_of_the_sorted_values(percentile):
    x = randn(3, 4, 5, 5)
    rows = x.abs().flatten(1).sort(dim=1).values
    position = percentile * 99
    low, high = rows[:, int(position)], rows[:, min(int(position) + 1, 99)]
    torch.testing.assert_close(corrections.measure_extent(x, percentile), low + (position % 1) * (high - low))


def test_half_of_known_values_lies_below_the_median():
    assert corrections.measure_extent(torch.tensor([[-4.0, 1.0, -2.0, 3.0, 0.0]]), 0.5).item() == 2


def test_the_dynamic_threshold_is_the_papers():
    conditional, guided_data = torch.tensor([[1.0, -1, 2, -2, 0]]), torch.tensor([[8.0, -6, 4, -2, 0]])
    # The medians are 1 and 4: clipped to ± 4, times 1 / 4.
    out = corrections.threshold_dynamic(guided_data, conditional, 0.5)
    assert out.tolist() == [[1.0, -1.0, 1.0, -0.5, 0.0]]


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (2, 32), (2, 32, 1, 1), (2, 4, 3, 6, 8)])
@pytest.mark.parametrize("percentile", [0.5, 0.9, 1.0])
def test_dynamically_thresholded_data_lies_within_the_conditionals_extent(shape, percentile):
    conditional = randn(*shape, seed=1)
    out = corrections.threshold_dynamic(12 * randn(*shape, seed=2), conditional, percentile)
    inner = corrections.measure_extent(conditional, percentile)
    assert torch.allclose(out.abs().flatten(1).amax(dim=1), inner) and out.shape == shape


def test_data_within_the_extent_keeps_every_bit():
    conditional = randn(2, 4, 6, 8)
    inside = 0.7 * conditional.roll(1, dims=3)
    assert torch.equal(corrections.threshold_dynamic(inside, conditional, 1.0), inside)
    limit = corrections.measure_extent(conditional, 0.9).min().item()
    inside = inside.clamp(-limit, limit)
    assert torch.equal(corrections.threshold_dynamic(inside, conditional, 0.9), inside)


def test_each_sample_has_its_own_extent():
    conditional, guided_data = randn(2, 4, 6, 8), 9 * randn(2, 4, 6, 8, seed=1)
    both = corrections.threshold_dynamic(guided_data, conditional, 0.9)
    assert torch.equal(both[1:], corrections.threshold_dynamic(guided_data[1:], conditional[1:], 0.9))
    rescaled = corrections.rescale_cfg(guided_data, conditional, 0 * conditional, 0.7)
    torch.testing.assert_close(
        rescaled[1:], corrections.rescale_cfg(guided_data[1:], conditional[1:], 0 * conditional[1:], 0.7)
    )


def test_data_of_zeros_stays_zeros():
    assert torch.equal(
        corrections.threshold_dynamic(torch.zeros(1, 4), torch.zeros(1, 4), 0.9), torch.zeros(1, 4)
    )


def test_the_static_threshold():
    assert corrections.threshold_static(torch.tensor([-3.0, -1, 0.5, 2]), 1.5).tolist() == [
        -1.5,
        -1,
        0.5,
        1.5,
    ]


def test_rescaling_is_that_of_v():
    """Lin et al. 2024, algorithm 2, on predictions of v; x0 = α x - σ v."""
    alpha, sigma = 0.6, 0.8
    x, v, v_conditional = (randn(2, 4, 6, 8, seed=seed) for seed in (1, 2, 3))
    v = 5 * v
    ratio = v_conditional.std(dim=(1, 2, 3), keepdim=True) / v.std(dim=(1, 2, 3), keepdim=True)
    for phi in (0.3, 0.7, 1.0):
        expected = phi * ratio * v + (1 - phi) * v
        out = corrections.rescale_cfg(
            alpha * x - sigma * v, alpha * x - sigma * v_conditional, alpha * x, phi
        )
        torch.testing.assert_close(out, alpha * x - sigma * expected, rtol=0, atol=1e-5)


def test_the_dtype_is_kept():
    x, conditional = 9 * randn(2, 4, 6, 8).half(), randn(2, 4, 6, 8, seed=1).half()
    options = GuidanceOptions(rescale=0.7, threshold="dynamic")
    assert options.correct(x, conditional, x / 2).dtype == torch.float16


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"start": 0.5, "end": 0.5}, "must end after it starts, got 0.5 to 0.5"),
        ({"end": 1.1}, "end of guidance must be a finite number from 0 to 1, got 1.1"),
        ({"rescale": 1.5}, "rescale of guidance must be a finite number from 0 to 1, got 1.5"),
        ({"threshold": "soft"}, "threshold of guidance must be one of none, static, dynamic, got 'soft'"),
        ({"percentile": 0.0}, "must be above 0"),
        ({"bound": 0.0}, "must be above 0"),
        ({"bound": float("inf")}, "bound of guidance must be a finite number of at least 0, got inf"),
        ({"rescale": float("nan")}, "rescale of guidance must be a finite number from 0 to 1, got nan"),
    ],
)
def test_values_out_of_range_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        GuidanceOptions(**values)


# In guided steps


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["eps", "v"])
@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("cfg", [7.5, [3.0, 5.0]])
def test_neutral_settings_change_no_bit(schedule, data, cfg):
    plain = sampled(PLAIN, cfg, data, schedule=schedule)
    for neutral in (
        GuidanceOptions(0.0, 1.0, 0.0, "none", 0.9, 1.0),
        GuidanceOptions(threshold="static", bound=1e4),
    ):
        assert torch.equal(sampled(neutral, cfg, data, schedule=schedule), plain)
    for effective in (
        GuidanceOptions(end=0.5),
        GuidanceOptions(rescale=0.7),
        GuidanceOptions(threshold="dynamic"),
    ):
        assert not torch.allclose(sampled(effective, cfg, data, schedule=schedule), plain, atol=1e-2)


@pytest.mark.parametrize("options", [{"rescale": 0.7}, {"threshold": "dynamic", "percentile": 0.5}])
@pytest.mark.parametrize("cfg", [1, 0])
def test_there_is_nothing_to_compare_without_guidance(options, cfg):
    contexts = [Context("text", CONTEXTS[0].tokens, CONTEXTS[0].null), CONTEXTS[1]]
    assert torch.equal(
        sampled(GuidanceOptions(**options), cfg, contexts=contexts), sampled(PLAIN, cfg, contexts=contexts)
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize(("cfg", "inside"), [(7.5, 3), ([5.0, 5.0], 2), ([2.0, 3.0], 3)])
def test_one_evaluation_outside_the_interval(sampler, data, cfg, inside):
    diffuser, schedule = Counting(), SCHEDULES[1]
    sampled(GuidanceOptions(start=0.3, end=0.7), cfg, data, sampler, diffuser=diffuser, steps=20)
    full = Counting()
    sampled(PLAIN, cfg, data, sampler, diffuser=full, steps=20)
    assert set(full.evaluations) == {inside}
    steps = choose_steps(schedule, sampler, 20)
    steps = warm_up(schedule, steps, 50, whole=True) if sampler == "pndm" else steps
    guides = [0.3 <= schedule.progress(t) <= 0.7 for t, *_ in steps]
    assert diffuser.evaluations == [inside if acts else 1 for acts in guides] and len(set(guides)) == 2


@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("threshold", ["none", "dynamic"])
def test_outside_the_interval_is_the_conditional_prediction(data, threshold):
    late = GuidanceOptions(start=0.6, threshold=threshold, rescale=0.5)
    plain = [Context("text", CONTEXTS[0].tokens), CONTEXTS[1]]
    for cfg in (7.5, 0, [2.0, 3.0]):
        assert torch.equal(data_of(late, cfg, data)[0], data_of(PLAIN, 1, data, contexts=plain)[0])
    assert not torch.equal(
        data_of(late, 7.5, data, t=301)[0], data_of(PLAIN, 1, data, t=301, contexts=plain)[0]
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["eps", "v"])
@pytest.mark.parametrize("data", SHAPES)
def test_guided_steps_are_corrected_by_the_formulas(schedule, data):
    conditional, x = data_of(PLAIN, 1, data, schedule=schedule)
    plain, _ = data_of(PLAIN, 7.5, data, schedule=schedule)
    origin = schedule.alphas_cumprod[501].sqrt() * x
    wide, narrow = ((origin - part).flatten(1).std(dim=1) for part in (plain, conditional))
    assert ((wide / narrow).log().abs() > 0.2).all()
    out, _ = data_of(GuidanceOptions(rescale=1.0), 7.5, data, schedule=schedule)
    torch.testing.assert_close((origin - out).flatten(1).std(dim=1), narrow, rtol=1e-4, atol=0)
    out, _ = data_of(GuidanceOptions(threshold="dynamic", percentile=0.9), 7.5, data, schedule=schedule)
    torch.testing.assert_close(out, corrections.threshold_dynamic(plain, conditional, 0.9), rtol=0, atol=1e-4)
    for cfg in (7.5, 1):
        out, _ = data_of(GuidanceOptions(threshold="static", bound=0.5), cfg, data, schedule=schedule)
        assert out.abs().max() <= 0.5 + 1e-5
    both, _ = data_of(
        GuidanceOptions(rescale=0.5, threshold="dynamic", percentile=0.9), 7.5, data, schedule=schedule
    )
    assert (both.abs().flatten(1).amax(dim=1) <= corrections.measure_extent(conditional, 0.9) + 1e-4).all()
