"""Record what diffusers' schedulers make of a made-up denoiser: `python record.py`, with diffusers installed.

Written for this project; the outputs here are those of diffusers 0.42.1 with torch 2.14.1 on one thread.
"""

import json
from itertools import product
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
OWN = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False},
    "PNDMScheduler": {"skip_prk_steps": True, "set_alpha_to_one": False},
}
SPACINGS = ("leading", "trailing", "linspace")
RUNS = {  # (steps, strength) of each scheduler
    "DDIMScheduler": [(20, 1), (50, 1), (7, 1), (30, 1), (20, 0.85), (20, 0.5), (50, 0.75), (3, 1), (1, 1)],
    "UniPCMultistepScheduler": [(20, 1), (10, 1), (7, 1), (30, 1), (20, 0.85), (20, 0.3), (2, 1), (1, 1), (3, 1)],
    "DPMSolverMultistepScheduler": [(20, 1), (10, 1), (7, 1), (30, 1), (20, 0.85), (20, 0.3), (2, 1), (1, 1), (3, 1)],
    "EulerDiscreteScheduler": [(20, 1), (7, 1), (20, 0.85), (2, 1)],
    "PNDMScheduler": [(50, 1), (20, 1), (5, 1), (20, 0.5), (50, 0.9)],
}
KARRAS = [(20, 1), (10, 1), (20, 0.85), (40, 1)]


def predict(x, t):
    """The noise in x at timestep t, as every case takes it."""
    return 0.6 * x + 0.3 * torch.sin(2 * x + float(t) / 150)


def draw(name, options, steps, strength, x_T, x_0):
    """The loop of research code: from noise, or the last int(steps * strength) steps from x_0 with noise."""
    scheduler = getattr(diffusers, name)(**BETAS, **OWN.get(name, {}), steps_offset=1, **options)
    scheduler.set_timesteps(steps)
    timesteps, x = scheduler.timesteps, x_T * scheduler.init_noise_sigma
    if strength < 1:
        timesteps = timesteps[-int(steps * strength) :]
        x = scheduler.add_noise(x_0, x_T, timesteps[:1].repeat(len(x_0)))
    for t in timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x, timesteps.tolist()


def cases():
    """Scheduler, its options, steps and strength of all cases."""
    for name, spacing in product(RUNS, SPACINGS):
        for karras in (False, True) if name == "EulerDiscreteScheduler" else (False,):
            options = {"timestep_spacing": spacing, **({"use_karras_sigmas": True} if karras else {})}
            yield from ((name, options, *run) for run in RUNS[name])
    for name, run in product(("UniPCMultistepScheduler", "DPMSolverMultistepScheduler"), KARRAS):
        yield name, {"use_karras_sigmas": True}, *run
        yield name, {"use_karras_sigmas": True, "timestep_spacing": "leading"}, *run


if __name__ == "__main__":
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(2, 4, 2, 2, generator=generator) for name in ("x_T", "x_0")}
    written = []
    for number, (name, options, steps, strength) in enumerate(cases()):
        x, timesteps = draw(name, options, steps, strength, tensors["x_T"], tensors["x_0"])
        entry = {"name": f"{number:03d}", "scheduler": name, **options, "steps": steps, "strength": float(strength)}
        written.append({**entry, "timesteps": timesteps})
        tensors[f"out.{entry['name']}"] = x.contiguous()
    lines = ",\n".join(f" {json.dumps(entry)}" for entry in written)
    (HERE / "schedules.json").write_text(f"[\n{lines}\n]\n")
    save_file(tensors, HERE / "io.safetensors")
