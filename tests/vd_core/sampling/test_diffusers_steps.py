"""Our samplers on diffusers' steps against what its schedulers computed (tests/golden/schedulers)."""

import json
from pathlib import Path

import pytest
import torch
from golden_cases.diffusers import SCHEDULERS, sampling_of
from safetensors.torch import load_file

from vd_core.choices import SPACINGS
from vd_core.config import ScheduleConfig
from vd_core.sampling.generate import generate
from vd_core.sampling.noise import make_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.schedule import Schedule
from vd_core.sampling.shift import ResolutionShift
from vd_core.sampling.spacing import choose_steps

GOLDEN = Path(__file__).parents[2] / "golden" / "schedulers"
IO = load_file(GOLDEN / "io.safetensors")
CASES = json.loads((GOLDEN / "schedules.json").read_text())
SCHEDULE = Schedule(ScheduleConfig())


def name_of(case):
    options = [case.get("timestep_spacing", ""), "karras" * case.get("use_karras_sigmas", False)]
    return " ".join(
        [SCHEDULERS[case["scheduler"]][0], *filter(None, options), f"{case['steps']} x {case['strength']}"]
    )


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_samples_are_those_of_diffusers(case):
    sampling, latent, visited = sampling_of({**case, "guidance_scale": 1.0}), IO["x_0"], []
    if sampling.from_noise and sampling.sampler == "euler" and not sampling.spacing.endswith("leading"):
        # There the noise is scaled by the largest sigma alone: noise on zeros, at the level of the first
        # step.
        sampling, latent = (
            Sampling("euler", steps=sampling.steps, spacing=sampling.spacing, strength=1.0),
            0 * latent,
        )

    def denoise(x, t):
        visited.append(t)
        return 0.6 * x + 0.3 * torch.sin(2 * x + t / 150)

    drawn = generate(denoise, SCHEDULE, latent, make_noise(IO["x_T"], "official"), sampling)
    golden = IO[f"out.{case['name']}"]
    assert visited == pytest.approx(case["timesteps"], abs=1e-2)
    assert (drawn - golden).abs().max() <= 3e-6 * (golden.max() - golden.min())


def test_explicit_timesteps_are_those_of_the_spacing():
    for sampler, spacing in (
        ("dpmpp_2m", "linspace"),
        ("unipc", "trailing"),
        ("euler", "linspace"),
        ("ddim", "leading"),
    ):
        spaced = choose_steps(SCHEDULE, sampler, 20, spacing)
        given = choose_steps(SCHEDULE, sampler, 1, timesteps=spaced.timesteps.tolist())
        assert torch.equal(given.timesteps, spaced.timesteps) and torch.equal(given.ends, spaced.ends)
    tensor = Sampling(timesteps=torch.tensor([900.5, 500, 1]))
    assert tensor.timesteps == (900.5, 500.0, 1.0) and tensor.steps == 3


def test_levels_between_timesteps_are_those_of_their_sigmas():
    low, between, high = (SCHEDULE.alpha(t) for t in (500, 500.25, 501))
    sigmas = [((1 - alpha) / alpha) ** 0.5 for alpha in (low, between, high)]
    assert sigmas[1] == pytest.approx(0.75 * sigmas[0] + 0.25 * sigmas[2])
    x, noise = torch.ones(1, 2), torch.full((1, 2), 2.0)
    seen = SCHEDULE.q_sample(x, 500.25, noise)
    torch.testing.assert_close(seen, between**0.5 * x + (1 - between) ** 0.5 * noise)
    torch.testing.assert_close(SCHEDULE.noise_in(seen, x, 500.25), noise)


def test_a_strength_starts_at_its_own_level_and_a_fidelity_one_higher():
    seen = []

    def denoise(x, t):
        seen.append((t, x))
        return torch.zeros_like(x)

    def start(**options):
        seen.clear()
        generate(
            denoise, SCHEDULE, IO["x_0"], make_noise(IO["x_T"], "official"), Sampling(steps=50, **options)
        )
        t, x = seen[0]
        level = next(
            s for s in range(1000) if torch.allclose(SCHEDULE.q_sample(IO["x_0"], s, IO["x_T"]), x, atol=1e-5)
        )
        return t, level, len(seen)

    assert start(strength=0.75) == start(fidelity=0.25, start_level="same") == (721, 721, 37)
    assert start(fidelity=0.25) == start(strength=0.75, start_level="official") == (721, 741, 37)
    assert start(strength=1.0) == (981, 981, 50)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"strength": 1.5}, "strength must be a finite number from 0 to 1"),
        ({"strength": 0.5, "fidelity": 0.5}, "say the same in two ways"),
        ({"start_level": "higher"}, "start_level must be one of official, same"),
        ({"spacing": "even"}, "spacing must be one of official"),
        ({"timesteps": [1, 2]}, "strictly descending"),
        ({"timesteps": []}, "at least one number"),
        ({"timesteps": [5], "spacing": "leading"}, "without a spacing"),
        ({"timesteps": [float("nan")]}, "timesteps must be a finite number"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampling(**options)


@pytest.mark.parametrize(
    "sampler, options, sentence",
    [
        ("ddim", {"spacing": "karras"}, "karras is not for ddim"),
        ("unipc", {"spacing": "karras leading"}, "karras leading is not for unipc"),
        ("ddim", {"timesteps": [1000, 1]}, "must lie between 0 and 999"),
        ("ddim", {"n": 0, "spacing": "leading"}, "between 1 and 1000, got 0"),
        ("ddim", {"n": 1000, "spacing": "leading"}, "has no 1000 steps for ddim"),
    ],
)
def test_steps_that_do_not_fit_are_refused(sampler, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose_steps(SCHEDULE, sampler, **{"n": 10, **options})


def test_shifts_and_starts_need_steps_of_ours():
    with pytest.raises(ValueError, match="A shift moves the steps of the spacings official"):
        choose_steps(Schedule(ScheduleConfig(), ResolutionShift(2, 2)), "ddim", 10, "leading")
    with pytest.raises(ValueError, match="leave spacing and timesteps out"):
        generate(
            lambda x, t: x,
            SCHEDULE,
            IO["x_0"],
            make_noise(1, "official"),
            Sampling(spacing="leading"),
            start=IO["x_T"],
        )


def test_every_spacing_works_for_many_numbers_of_steps():
    for sampler, (spacing, n) in (
        (s, p) for s in ("euler", "dpmpp_2m") for p in ((s, n) for s in SPACINGS for n in (1, 2, 31, 499))
    ):
        if spacing.startswith("karras ") and sampler != "euler":
            continue
        steps = choose_steps(SCHEDULE, sampler, n, spacing)
        assert len(steps) >= n and float(steps.timesteps.min()) >= 0 and float(steps.timesteps.max()) <= 999
