"""How to sample as a scheduler of diffusers does, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config import ScheduleConfig
from ..sampling.options import Sampling
from .formats import resolve_existing
from .pipeline_config import PREDICTIONS, read_json


class Scheduler(NamedTuple):
    """A class of diffusers that we have the steps of.

    spacing:  its default. fixed: setting -> its default there, and what our steps are the same as.
    """

    sampler: str
    spacing: str
    fixed: dict[str, tuple[Any, tuple]]


OFF = (False, (False, None))
UNSET = (None, (None,))
SIGMAS = {"final_sigmas_type": ("zero", ("zero",)), "use_exponential_sigmas": OFF, "use_beta_sigmas": OFF}
SOLVER = SIGMAS | {
    "thresholding": OFF,
    "solver_order": (2, (2,)),
    "use_flow_sigmas": OFF,
    "use_dynamic_shifting": OFF,
}
SCHEDULERS = {
    "DDIMScheduler": Scheduler(
        "ddim",
        "leading",
        {"clip_sample": (True, (False,)), "set_alpha_to_one": (True, (False,)), "thresholding": OFF},
    ),
    "PNDMScheduler": Scheduler(
        "pndm", "leading", {"skip_prk_steps": (False, (True,)), "set_alpha_to_one": OFF}
    ),
    "EulerDiscreteScheduler": Scheduler(
        "euler",
        "linspace",
        SIGMAS
        | {
            "interpolation_type": ("linear", ("linear",)),
            "timestep_type": ("discrete", ("discrete",)),
            "sigma_min": UNSET,
            "sigma_max": UNSET,
        },
    ),
    "DPMSolverMultistepScheduler": Scheduler(
        "dpmpp_2m",
        "linspace",
        SOLVER
        | {
            "algorithm_type": ("dpmsolver++", ("dpmsolver++", "deis")),  # it reads some names as others
            "solver_type": ("midpoint", ("midpoint", "logrho", "bh1", "bh2")),
            "use_lu_lambdas": OFF,
            "lambda_min_clipped": (-float("inf"), (-float("inf"),)),
            "variance_type": UNSET,
        },
    ),
    "UniPCMultistepScheduler": Scheduler(
        "unipc",
        "linspace",
        SOLVER
        | {
            "predict_x0": (True, (True,)),
            "solver_type": ("bh2", ("bh2",)),
            "lower_order_final": (True, (True,)),
            "disable_corrector": ([], ([], ())),
            "solver_p": UNSET,
            "sigma_min": UNSET,
            "sigma_max": UNSET,
            "shift_terminal": UNSET,
        },
    ),
}
# The schedule that the network was trained on, with diffusers' defaults.
TRAINED = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
}
# What changes nothing where the others are as they must be.
IDLE = {
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "flow_shift",
    "lower_order_final",
    "sample_max_value",
    "time_shift_type",
}
KNOWN = IDLE | {"timestep_spacing", "steps_offset", "use_karras_sigmas"} | TRAINED.keys()
KNOWN |= {setting for scheduler in SCHEDULERS.values() for setting in scheduler.fixed}


def read_scheduler(
    settings: Mapping[str, Any] | str | Path, name: str | None = None, schedule: ScheduleConfig | None = None
) -> Sampling:
    """Read the settings of a scheduler of diffusers as a `Sampling` with the same steps.

    settings: its config, or the folder or file that it was saved to. What it does not say is as diffusers'
              class has it; what that class does not have is ignored, as diffusers ignores it.
    name:     the class, one of `SCHEDULERS`; None = the settings' `_class_name`.
    schedule: that of the model, `vd.config.schedule`; None = that of Versatile Diffusion v1.0.

    Steps, cfg and strength are no part of it: `dataclasses.replace(read_scheduler(…), steps=20, cfg=3.5)`.
    Euler starts from noise of its largest sigma alone unless its spacing is "leading": that is strength 1 on
    a latent of zeros, so the result has strength 1.

    Raises FileNotFoundError, and ValueError for settings that would give other samples here, and for a class
    or a setting that is not known.
    """
    if isinstance(settings, str | Path):
        path = Path(settings)
        settings = read_json(resolve_existing(path / "scheduler_config.json" if path.is_dir() else path))
    if not isinstance(settings, Mapping):
        raise ValueError(f"Settings are those of a scheduler's .config, got {type(settings).__name__}.")
    made_by = settings.get("_class_name")
    name = name or made_by
    if not isinstance(name, str) or name not in SCHEDULERS:
        advice = "" if name else ": name the class as the second argument"
        raise ValueError(f"The scheduler must be one of {', '.join(SCHEDULERS)}, got {name!r}{advice}.")
    scheduler = SCHEDULERS[name]
    if name != made_by:
        settings = forget_defaults(settings)
    strangers = [key for key in settings if key not in KNOWN and not key.startswith("_")]
    if strangers:
        raise ValueError(f"The setting {strangers[0]} of {name} is not known here: leave it out.")
    check_trained(name, settings, schedule or ScheduleConfig())
    for key, (default, same) in scheduler.fixed.items():
        check_setting(name, key, settings.get(key, default), same)
    spacing = settings.get("timestep_spacing", scheduler.spacing)
    check_setting(name, "timestep_spacing", spacing, ("leading", "trailing", "linspace"))
    ends = scheduler.sampler in ("ddim", "pndm", "euler")  # of these the spacing counts with Karras too
    karras = scheduler.sampler not in ("ddim", "pndm") and settings.get("use_karras_sigmas")
    if spacing == "leading" and (ends or not karras):
        check_setting(name, "steps_offset", settings.get("steps_offset", 0), (1,))
    if karras:
        spacing = f"karras {spacing}" if ends and spacing != "linspace" else "karras"
    at_largest = scheduler.sampler == "euler" and not spacing.endswith("leading")
    return Sampling(scheduler.sampler, spacing=spacing, strength=1.0 if at_largest else None)


def forget_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a config in memory has from its class alone, as `from_config` of diffusers does when it
    makes another class of it. A config that does not name its class keeps what is the default of none: that
    was set later."""
    given = settings.get("_use_default_values")
    forgotten = given if isinstance(given, list | tuple) else ()
    if "_class_name" not in settings:
        defaults: dict[str, list[Any]] = {key: [value] for key, value in TRAINED.items()}
        defaults |= {"use_karras_sigmas": [False, None], "steps_offset": [0]}
        defaults["timestep_spacing"] = [each.spacing for each in SCHEDULERS.values()]
        for each in SCHEDULERS.values():
            for key, (default, _) in each.fixed.items():
                defaults.setdefault(key, []).append(default)
        forgotten = [key for key in forgotten if settings.get(key) in defaults.get(key, [settings.get(key)])]
    return {key: value for key, value in settings.items() if key not in forgotten}


def check_trained(name: str, settings: Mapping[str, Any], schedule: ScheduleConfig) -> None:
    """Raise ValueError unless a scheduler's noise is that which the model was trained on."""
    wanted = {
        "num_train_timesteps": schedule.timesteps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": "scaled_linear",
        "trained_betas": None,
        "rescale_betas_zero_snr": False,
        "prediction_type": next(key for key, ours in PREDICTIONS.items() if ours == schedule.prediction),
    }
    for key, default in TRAINED.items():
        check_setting(name, key, settings.get(key, default), (wanted[key],))


def check_setting(name: str, key: str, value: object, same: tuple) -> None:
    """Raise ValueError unless a setting is one with which our samples are the same."""
    if value not in same:
        raise ValueError(
            f"{name} has {key} {value!r}, and would sample otherwise than this model here: the same is only "
            f"{' or '.join(map(repr, same))}."
        )
