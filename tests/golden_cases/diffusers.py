"""Cases of diffusers: the loop that research code writes around its pipelines, from the pipeline's own
folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vd_core import Context, Sampling, VersatileDiffusion, load, read_scheduler
from vd_core.checkpoints.scheduler_config import KNOWN
from vd_core.config import ScheduleConfig
from vd_core.sampling.generate import begin
from vd_core.sampling.noise import make_noise
from vd_core.sampling.schedule import Schedule

LIMIT = {"default": 1e-4, "timesteps": 1e-5, "max_abs_over_max_ref": 1e-4}  # shares of the largest value


@lru_cache
def entries(folder: Path) -> dict[str, dict]:
    """Read the cases of a cases.json by name, and one of the image autoencoder where it was recorded."""
    listed = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    shared = listed.get("scheduler", {}) | {"case": "diffusers_loop", "tolerance": LIMIT}
    found = {entry["name"]: shared | entry for entry in listed["cases"]}
    return found | {"vae": {"case": "diffusers_vae", "tolerance": LIMIT}}


@lru_cache
def model(folder: Path) -> VersatileDiffusion:
    """Load the pipeline beside a cases.json."""
    pipelines = [path.parent for path in folder.glob("*/model_index.json")]
    return load(pipelines[0] if pipelines else folder)


def sampling_of(entry: dict, schedule: ScheduleConfig | None = None) -> Sampling:
    """Say in our words what a scheduler was told."""
    settings = {key: value for key, value in entry.items() if key in KNOWN}
    found = read_scheduler(settings, entry["scheduler"], schedule)
    numbers = {"steps": entry["steps"], "cfg": entry["guidance_scale"], "eta": entry.get("eta", 0.0)}
    strength = entry.get("strength", 1.0)
    return replace(found, **numbers, strength=strength if strength < 1 else found.strength)


def loop(case) -> Iterator[tuple[str, object, object]]:
    """Draw under predicted tokens, from noise or from a first guess."""
    entry, io, vd = case.config, case.io, model(case.folder)
    sampling = sampling_of(entry, vd.config.schedule)
    scale = vd.config.diffuser.data["image"].latent_scale
    latent = io["x_0"] / scale if entry.get("strength", 1.0) < 1 else torch.zeros_like(io["x_0"])
    names = [] if entry["null"] == "zeros" else [name.strip() for name in entry["null"].split(",")]
    nulls = {name.partition("_")[0]: io[name] for name in names}
    share = entry["text_ratio"]
    contexts = [
        Context("image", io["image_tokens"], nulls.get("image"), weight=1 - share),
        Context("text", io["text_tokens"], nulls.get("text"), weight=share),
    ]
    steps = begin(Schedule(vd.config.schedule), latent * scale, make_noise(io["x_T"], "official"), sampling)[
        2
    ]
    yield "timesteps", steps.timesteps.double(), torch.tensor(entry["timesteps"], dtype=torch.float64)
    name = f"out.{entry['name']}"
    yield name, vd.sample("image", contexts, latent, io["x_T"], sampling) * scale, io[name]


def image_vae(case) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Decode a latent, and encode what came of it; diffusers' pictures lie in -1..1."""
    io, vd = case.io, model(case.folder)
    scale = vd.config.diffuser.data["image"].latent_scale
    decoded = vd.image_vae.decode_unclamped(io["x_0"] / scale)
    yield "vae.decoded", 2 * decoded - 1, io["vae.decoded"]
    yield "vae.mean", vd.image_vae.encode((io["vae.decoded"].clamp(-1, 1) + 1) / 2), io["vae.mean"]


RUNNERS = {"diffusers_loop": loop, "diffusers_vae": image_vae}
