"""The noise schedule and the timesteps that samplers visit."""

import dataclasses

import numpy as np
import pytest
import torch

from vd_core.config import ScheduleConfig
from vd_core.sampling.schedule import SPACINGS, Schedule, Steps, count_fidelity_steps

SCHEDULE = Schedule(ScheduleConfig())
V_SCHEDULE = Schedule(ScheduleConfig(prediction="v"))
# Step counts with which the official code fails: they lead to timestep 1000.
OFFICIALLY_CRASHING = [3, 9, 27, 36, 37, *range(101, 112), *range(251, 334), *range(501, 1001)]


def test_known_values():
    assert SCHEDULE.alphas_cumprod[0].item() == pytest.approx(1 - 0.00085, rel=1e-6)
    assert SCHEDULE.alphas_cumprod[999].item() == pytest.approx(0.00466, abs=1e-5)


def test_buffers_are_the_official_twelve():
    buffers = SCHEDULE.buffers()
    assert len(buffers) == 12
    assert all(values.shape == (1000,) and values.dtype == torch.float32 for values in buffers.values())


def test_buffers_agree_with_each_other():
    b = {name: values.double() for name, values in SCHEDULE.buffers().items()}
    x = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Without predicted noise the posterior's mean leads from x_t = sqrt(alphas_cumprod) x0 to x_{t-1} =
    # sqrt(alphas_cumprod_prev) x0.
    mean = b["posterior_mean_coef1"] * x + b["posterior_mean_coef2"] * b["sqrt_alphas_cumprod"] * x
    torch.testing.assert_close(mean, b["alphas_cumprod_prev"].sqrt() * x, rtol=1e-5, atol=1e-6)
    ones = torch.ones_like(x)
    torch.testing.assert_close(
        b["sqrt_alphas_cumprod"] ** 2 + b["sqrt_one_minus_alphas_cumprod"] ** 2, ones, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        b["sqrt_recip_alphas_cumprod"] ** 2 - b["sqrt_recipm1_alphas_cumprod"] ** 2, ones, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        b["log_one_minus_alphas_cumprod"].exp().sqrt(), b["sqrt_one_minus_alphas_cumprod"], atol=1e-6, rtol=0
    )
    assert b["posterior_variance"][0] == 0
    assert b["posterior_log_variance_clipped"][0].item() == pytest.approx(np.log(1e-20))
    torch.testing.assert_close(
        b["posterior_log_variance_clipped"][1:].exp(), b["posterior_variance"][1:], rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    ("n", "count", "first", "stride"),
    [(50, 50, 981, 20), (30, 31, 991, 33), (7, 8, 995, 142), (1, 1, 1, 1000), (2, 2, 501, 500)],
)
def test_official_steps(n, count, first, stride):
    steps = SCHEDULE.steps(n)
    assert steps.timesteps.tolist() == [first - stride * j for j in range(count)]
    assert steps.timesteps.dtype == torch.int64


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_step_count_works(spacing):
    for n in range(1, 1001):
        steps = SCHEDULE.steps(n, spacing)
        last = {
            "official": 1,
            "quadratic": 999 if n == 1 else 1,
            "sgm_uniform": round(999 - 999 * (n - 1) / n),
        }[spacing]
        assert steps.timesteps[0] <= 999 and steps.timesteps[-1] == max(last, 1)
        assert len(steps) >= min(n, 999)


def test_only_the_officially_crashing_step_counts_reach_the_clamp():
    strides = {n: 1000 // n for n in range(1, 1001)}
    assert [n for n, k in strides.items() if 1000 in np.arange(0, 1000, k) + 1] == OFFICIALLY_CRASHING
    for n in OFFICIALLY_CRASHING:
        assert SCHEDULE.steps(n).timesteps[0] == 999
    assert SCHEDULE.steps(3).timesteps.tolist() == [999, 667, 334, 1]
    # 999 and the clamped 1000 are one step
    assert SCHEDULE.steps(1000).timesteps.tolist() == list(range(999, 0, -1))


def test_quadratic_steps_are_as_many_as_asked_and_denser_towards_the_data():
    assert SCHEDULE.steps(5, "quadratic").timesteps.tolist() == [999, 562, 250, 63, 1]
    for n in (1, 20, 50, 200, 999):
        steps = SCHEDULE.steps(n, "quadratic")
        assert len(steps) == n and steps.timesteps[0] == 999


def test_alphas_of_steps_are_rounded_to_float32_and_end_above_the_data():
    steps = SCHEDULE.steps(50)
    assert steps.alphas_cumprod.dtype == torch.float64
    expected = SCHEDULE.alphas_cumprod[[*steps.timesteps.tolist(), 0]]
    assert torch.equal(steps.alphas_cumprod.float(), expected) and torch.equal(
        steps.alphas_cumprod, expected.double()
    )


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_step_counts_out_of_range_are_refused(n):
    with pytest.raises(ValueError, match="number of steps lies between 1 and 1000"):
        SCHEDULE.steps(n)


def test_unknown_spacing_and_prediction_are_refused():
    with pytest.raises(ValueError, match="official, quadratic"):
        SCHEDULE.steps(10, "karras")
    with pytest.raises(ValueError, match="eps"):
        Schedule(ScheduleConfig(prediction="x0"))


def test_other_lengths_of_the_schedule():
    schedule = Schedule(dataclasses.replace(ScheduleConfig(), timesteps=100))
    assert schedule.steps(10).timesteps.tolist() == list(range(91, 0, -10))
    assert schedule.steps(100, "quadratic").timesteps[0] == 99


def test_last_steps_and_where_a_clean_latent_starts():
    steps = SCHEDULE.steps(10)
    assert steps.last(3).timesteps.tolist() == [201, 101, 1]
    assert steps.timesteps[steps.one_above(3)] == 301
    assert torch.equal(steps.last(3).alphas_cumprod, steps.alphas_cumprod[-4:])
    assert len(steps.last(0)) == 0 and steps.last(10).timesteps.tolist() == steps.timesteps.tolist()
    assert steps.one_above(9) == steps.one_above(10) == 0  # the official code fails with all steps
    for k in (-1, 11):
        with pytest.raises(ValueError, match="Only 0 to 10 of 10 steps"):
            steps.last(k)


def test_iteration_gives_each_step_with_where_it_leads():
    steps = SCHEDULE.steps(10)
    visited = list(steps)
    assert [t for t, _, _ in visited] == steps.timesteps.tolist()
    assert [after for _, _, after in visited[:-1]] == [before for _, before, _ in visited[1:]]
    assert visited[-1][2] == SCHEDULE.alphas_cumprod[0].item()


def test_hand_made_steps_are_checked():
    alphas = torch.tensor([0.1, 0.5, 0.9])
    Steps(torch.tensor([7, 2]), alphas)
    with pytest.raises(ValueError, match="3 timesteps need 4"):
        Steps(torch.tensor([7, 2, 1]), alphas)
    with pytest.raises(ValueError, match="descending"):
        Steps(torch.tensor([2, 7]), alphas)
    Steps(torch.tensor([7, 2]), torch.tensor([0.1, 0.5, 1.0]))  # to pure data
    for bad, sentence in (
        ([0.1, 0.1, 0.9], "strictly ascending"),
        ([0.0, 0.5, 0.9], "between 0 and 1"),
        ([0.1, 0.5, 1.1], "between 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Steps(torch.tensor([7, 2]), torch.tensor(bad))
    with pytest.raises(ValueError, match="2 timesteps need"):
        Steps(torch.tensor([7, 2]), alphas, targets=alphas)


def test_fidelity_truncates_like_the_official_app():
    assert (
        count_fidelity_steps(50, 0.0) == 50
        and count_fidelity_steps(50, 1.0) == 0
        and count_fidelity_steps(50, 0.5) == 25
    )
    fewer = [
        f
        for f in range(1, 100)
        if count_fidelity_steps(50, f / 100) != round(50 * (100 - f) / 100) and f % 2 == 0
    ]
    assert fewer == [34, 56, 68, 78, 80, 90, 92]
    assert count_fidelity_steps(50, 0.99) == 0


def test_sigmas():
    steps = SCHEDULE.steps(1000)
    assert not steps.compute_ddim_sigmas(0.0).any()
    # At eta 1 on neighbouring timesteps they are the posterior's (entry t of the buffer leads from t to t -
    # 1).
    posterior = SCHEDULE.buffers()["posterior_variance"].double()[1:].flip(0)
    # alphas_cumprod is rounded to float32
    torch.testing.assert_close(steps.compute_ddim_sigmas(1.0) ** 2, posterior, rtol=2e-3, atol=0)
    torch.testing.assert_close(steps.compute_ddim_sigmas(0.5), steps.compute_ddim_sigmas(1.0) / 2)


def test_q_sample_of_one_and_of_many_timesteps():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 4, 2, 2), (3, 8)):
        x0, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        t = torch.tensor([0, 500, 999])
        mixed = SCHEDULE.q_sample(x0, t, noise)
        for i in range(3):
            alpha = SCHEDULE.alphas_cumprod[t[i]]
            torch.testing.assert_close(mixed[i], alpha.sqrt() * x0[i] + (1 - alpha).sqrt() * noise[i])
            assert torch.equal(SCHEDULE.q_sample(x0, int(t[i]), noise)[i], mixed[i])
    assert SCHEDULE.q_sample(x0.half(), 7, noise.half()).dtype == torch.float16


def test_target_and_to_eps_are_inverse():
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(3, 8, generator=generator), torch.randn(3, 8, generator=generator)
    t = torch.tensor([0, 500, 999])
    for schedule in (SCHEDULE, V_SCHEDULE):
        x = schedule.q_sample(x0, t, noise)
        torch.testing.assert_close(
            schedule.to_eps(x, schedule.target(x0, t, noise), t), noise, atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            schedule.to_eps(x, schedule.target(x0, 500, noise), 500)[1], noise[1], atol=1e-5, rtol=0
        )
    assert torch.equal(SCHEDULE.target(x0, t, noise), noise)
    alpha = V_SCHEDULE.alphas_cumprod[t][:, None]
    torch.testing.assert_close(
        V_SCHEDULE.target(x0, t, noise), alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    )
