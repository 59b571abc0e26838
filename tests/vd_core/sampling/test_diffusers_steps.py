"""Our samplers on diffusers' steps against what its schedulers computed (tests/golden/schedulers)."""

import json
from pathlib import Path

import pytest
import torch
from golden_cases.diffusers import sampling_of
from safetensors.torch import load_file

from vd_core import read_scheduler
from vd_core.checkpoints.scheduler_config import SCHEDULERS
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
# As Stable Diffusion's and Versatile Diffusion's; a scheduler ignores what is another's.
SETTINGS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def name_of(case):
    options = [case.get("timestep_spacing", ""), "karras" * case.get("use_karras_sigmas", False)]
    name = SCHEDULERS[case["scheduler"]].sampler
    return " ".join([name, *filter(None, options), f"{case['steps']} x {case['strength']}"])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_samples_are_those_of_diffusers(case):
    sampling = sampling_of({**SETTINGS, **case, "guidance_scale": 1.0})
    latent, visited = IO["x_0"] * (case["strength"] < 1), []

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


def test_a_saved_scheduler_is_read_from_its_folder():
    folder = Path(__file__).parents[2] / "golden" / "diffusers" / "dual" / "scheduler"
    assert read_scheduler(folder) == Sampling("ddim", spacing="leading")
    assert read_scheduler(folder / "scheduler_config.json", "UniPCMultistepScheduler") == Sampling(
        "unipc", spacing="leading"
    )
    with pytest.raises(FileNotFoundError, match="absent.json"):
        read_scheduler(folder / "absent.json")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    "setting, value",
    [
        *(("timestep_spacing", "even"), ("steps_offset", 0), ("set_alpha_to_one", True)),
        *(("clip_sample", True), ("thresholding", True), ("skip_prk_steps", False)),
        *(("use_exponential_sigmas", True), ("use_beta_sigmas", True), ("use_lu_lambdas", True)),
        *(("use_flow_sigmas", True), ("use_dynamic_shifting", True), ("final_sigmas_type", "sigma_min")),
        *(("solver_order", 3), ("solver_type", "heun"), ("algorithm_type", "sde-dpmsolver++")),
        *(("predict_x0", False), ("lower_order_final", False), ("disable_corrector", [0]), ("solver_p", {})),
        *(("sigma_min", 0.1), ("sigma_max", 10.0), ("shift_terminal", 0.1), ("lambda_min_clipped", -5.1)),
        *(("variance_type", "learned"), ("interpolation_type", "log_linear")),
        *(("timestep_type", "continuous"), ("prediction_type", "v_prediction"), ("beta_end", 0.02)),
        *(("rescale_betas_zero_snr", True), ("beta_schedule", "linear"), ("trained_betas", [0.1])),
    ],
)
def test_a_setting_that_changes_samples_is_refused_where_the_scheduler_has_it(scheduler, setting, value):
    settings = {**SETTINGS, "timestep_spacing": "leading", setting: value}
    training = setting.startswith(("beta", "trained", "prediction", "rescale"))
    idle = scheduler == "DPMSolverMultistepScheduler" and setting == "lower_order_final"  # at order 2
    own = setting in SCHEDULERS[scheduler].fixed or setting in ("timestep_spacing", "steps_offset")
    if training or own and not idle:
        with pytest.raises(ValueError, match=f"{scheduler} has {setting} .* would sample otherwise"):
            read_scheduler(settings, scheduler)
    else:
        assert read_scheduler(settings, scheduler).sampler == SCHEDULERS[scheduler].sampler


def test_classes_and_settings_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="The scheduler must be one of DDIMScheduler, .* got 'HeunDiscrete"):
        read_scheduler(SETTINGS, "HeunDiscreteScheduler")
    with pytest.raises(ValueError, match="The setting use_new_sigmas of DDIMScheduler is not known here"):
        read_scheduler({**SETTINGS, "use_new_sigmas": True}, "DDIMScheduler")
    assert read_scheduler({**SETTINGS, "_use_default_values": []}, "PNDMScheduler").spacing == "leading"
    with pytest.raises(ValueError, match="got None: name the class as the second argument"):
        read_scheduler(SETTINGS)


@pytest.mark.parametrize(
    ("scheduler", "spacing"), [("UniPCMultistepScheduler", "linspace"), (None, "leading")]
)
def test_defaults_of_one_class_are_no_settings_of_another(scheduler, spacing):
    """A config in memory lists them, and `from_config` of diffusers drops them."""
    config = {**SETTINGS, "_class_name": "DDIMScheduler", "timestep_spacing": "leading"}
    config |= {"steps_offset": 1, "_use_default_values": ["timestep_spacing"]}
    assert read_scheduler(config, scheduler).spacing == spacing


@pytest.mark.parametrize("made_by", ["EulerDiscreteScheduler", None])
def test_settings_that_were_changed_later_are_kept(made_by):
    """`register_to_config` of diffusers changes them, and leaves their names among the defaults."""
    config = {**SETTINGS, "timestep_spacing": "trailing", "use_karras_sigmas": True}
    config |= {"_use_default_values": ["timestep_spacing", "use_karras_sigmas"]}
    config |= {"_class_name": made_by} if made_by else {}
    assert read_scheduler(config, "EulerDiscreteScheduler").spacing == "karras trailing"
