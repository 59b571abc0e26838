"""`versatile-diffusion reconstruct`: pictures from predicted CLIP tokens."""

from __future__ import annotations

import argparse

import torch

from ..bulk.job import read_settings
from ..bulk.parts import is_picture, unpack_pictures
from ..bulk.reconstruct import Reconstruction
from ..bulk.tasks import resolve_models
from ..choices import DTYPES
from ..diffuser.precision import choose_dtype
from ..files import make_folder
from ..placement import choose_device
from ..sampling.options import Sampling
from .jobs import report, run_job, say_how_to_go_on


def choose_type(options: argparse.Namespace) -> str:
    """Name the type of the weights. "auto" is measured, so a job that was begun keeps what it found."""
    begun = read_settings(options.out).get("dtype")
    if options.dtype == "auto" and begun in DTYPES:
        return begun
    on_ray = options.workers and not options.gpus  # which hides the GPUs from its workers
    device = choose_device(options.device or ("cpu" if on_ray else None))
    return str(choose_dtype(options.dtype, torch.device(device).type)).removeprefix("torch.")


def run(options: argparse.Namespace) -> int:
    """Run what is missing of a job, then write the pictures as files. Returns the exit status."""
    sampling = Sampling(
        options.sampler,
        options.steps,
        cfg=options.cfg,
        strength=options.strength if options.guesses else None,
        spacing=options.spacing,
    )
    settings = Reconstruction(
        image_tokens=str(options.tokens.resolve()),
        texts=str(options.texts.resolve()) if options.texts else "",
        guesses=str(options.guesses.resolve()) if options.guesses else "",
        models=resolve_models(options.model),
        ratio=options.ratio,
        normalise=options.normalise,
        count=options.count,
        best=options.best,
        seed=options.seed,
        size=options.size,
        dtype=choose_type(options),
        sampling=sampling,
    )
    with say_how_to_go_on(options):
        job, failed = run_job(options.tokens, options.out, settings, options)
        pictures = options.out / "pictures"
        make_folder(pictures)
        drawn = {name for part in job.paths() for name in unpack_pictures(part, pictures)}
        for path in pictures.iterdir():  # of rows that an accepted change took away
            if is_picture(path.name) and path.name not in drawn:
                path.unlink()
    return report(job, failed, pictures)
