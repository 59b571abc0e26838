"""`versatile-diffusion reconstruct`: pictures from predicted CLIP tokens."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..bulk.job import read_settings
from ..bulk.parts import is_picture, unpack_pictures
from ..bulk.reconstruct import Reconstruction
from ..bulk.tasks import resolve_models
from ..diffuser.precision import DTYPES, choose_dtype
from ..embedded import MODEL
from ..files import make_folder
from ..placement import choose_device, resolve_device
from ..sampling.samplers import SAMPLERS
from ..sampling.spacing import SPACINGS
from .jobs import DTYPE_HELP, add_job_options, report, run_job

DEFAULT = Reconstruction("")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "tokens",
        type=Path,
        metavar="IMAGE_TOKENS.npy",
        help="as CLIP's vision tower gives them: [rows, 257, 768], embedded model [rows, 65, 160]",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="TOKENS.npy",
        help="those of captions: [rows, 77, 768], embedded model [rows, 32, 160]",
    )
    parser.add_argument(
        "--guesses", type=Path, metavar="DIR", help="a picture per row to start from, by number or name"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the job; pictures/ROW-I.png"
    )
    parser.add_argument(
        "--ratio", type=float, default=DEFAULT.ratio, help="share of the texts; default: %(default)s"
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=DEFAULT.sampling.strength,
        help="share of the steps that run from a guess; default: %(default)s",
    )
    parser.add_argument(
        "--count", type=int, default=DEFAULT.count, help="samples per row; default: %(default)s"
    )
    parser.add_argument(
        "--best", type=int, default=DEFAULT.best, help="how many are kept; default: %(default)s"
    )
    parser.add_argument(
        "--normalise", action="store_true", help="divide each row by the norm of its first token"
    )
    parser.add_argument(
        "--model",
        nargs="+",
        default=[str(MODEL)],
        metavar="FILE",
        help="files or OWNER/NAME of the hub; default: the embedded one",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help=DTYPE_HELP)
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the pictures; default: 512, embedded model 64"
    )
    parser.add_argument("--sampler", choices=SAMPLERS, default=DEFAULT.sampling.sampler)
    parser.add_argument(
        "--spacing",
        choices=SPACINGS,
        default=DEFAULT.sampling.spacing,
        help="of the timesteps; default: %(default)s",
    )
    parser.add_argument("--steps", type=int, default=DEFAULT.sampling.steps)
    parser.add_argument(
        "--cfg", type=float, default=DEFAULT.sampling.cfg, help="guidance scale; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0)
    add_job_options(parser, batch=1, workers=0)


def choose_type(options: argparse.Namespace) -> str:
    """Name the type of the weights. "auto" is measured, so a job that was begun keeps what it found."""
    begun = read_settings(options.out).get("dtype")
    if options.dtype == "auto" and begun in DTYPES:
        return begun
    on_ray = options.workers and not options.gpus  # which hides the GPUs from its workers
    device = options.device or ("cpu" if on_ray else choose_device())
    return str(choose_dtype(options.dtype, resolve_device(device).type)).removeprefix("torch.")


def run(options: argparse.Namespace) -> int:
    """Run what is missing of a job, then write the pictures as files. Returns the exit status."""
    sampling = replace(
        DEFAULT.sampling,
        sampler=options.sampler,
        steps=options.steps,
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
    job, failed = run_job(options.tokens, options.out, settings, options)
    pictures = options.out / "pictures"
    make_folder(pictures)
    drawn = {name for part in job.paths() for name in unpack_pictures(part, pictures)}
    for path in pictures.iterdir():  # of rows that an accepted change took away
        if is_picture(path.name) and path.name not in drawn:
            path.unlink()
    return report(job, failed, pictures)
