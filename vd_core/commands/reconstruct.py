"""`versatile-diffusion reconstruct`: pictures from predicted CLIP tokens."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..bulk.job import open_job
from ..bulk.job import run as run_job
from ..bulk.parts import is_picture, part_path, unpack_pictures
from ..bulk.reconstruct import Reconstruction
from ..bulk.tasks import resolve_models
from ..checkpoints.hub import find_snapshot, is_name
from ..embedded import MODEL
from ..files import make_folder
from ..sampling.samplers import SAMPLERS
from ..sampling.spacing import SPACINGS

HELP = (
    "draw pictures from predicted CLIP tokens (brain decoding), several per row, and keep the best; resumes"
)
DEFAULT = Reconstruction("")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "tokens",
        type=Path,
        metavar="IMAGE_TOKENS.npy",
        help="[rows, 257, 768], as CLIP's vision tower gives them",
    )
    parser.add_argument("--texts", type=Path, metavar="TOKENS.npy", help="[rows, 77, 768], those of captions")
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
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights"
    )
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
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="ROWS",
        help="rows that run together, each with --count samples; default: 1",
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes on Ray; default: 0, all in this one"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU for each worker")
    parser.add_argument("--gpus", type=float, default=0, metavar="SHARE", help="of a GPU for each worker")
    parser.add_argument("--address", help="of a Ray cluster that sees all files under the same paths")
    parser.add_argument(
        "--accept-changes", action="store_true", help="make anew what changed inputs or options change"
    )


def run(options: argparse.Namespace) -> None:
    """Run what is missing of a job, with a progress bar; then write the pictures as files."""
    models = [str(find_snapshot(path)) if is_name(path) else path for path in options.model]
    sampling = replace(
        DEFAULT.sampling,
        sampler=options.sampler,
        steps=options.steps,
        cfg=options.cfg,
        strength=options.strength,
        spacing=options.spacing,
    )
    settings = Reconstruction(
        str(options.tokens.resolve()),
        str(options.texts.resolve()) if options.texts else "",
        str(options.guesses.resolve()) if options.guesses else "",
        resolve_models(models),
        options.ratio,
        options.normalise,
        options.count,
        options.best,
        options.seed,
        options.size,
        options.dtype,
        sampling,
    )
    job = open_job(
        options.tokens, options.out, settings, options.batch, accept_changes=options.accept_changes
    )
    waiting = sum(len(job.part(number)) for number in job.missing())
    with tqdm(total=len(job.rows), initial=len(job.rows) - waiting, unit=" rows") as bar:
        try:
            failed = run_job(job, options.workers, options.gpus, options.threads, options.address, bar.update)
        except KeyboardInterrupt:
            raise ValueError("Stopped: the same command goes on with what is missing.") from None
    pictures = options.out / "pictures"
    make_folder(pictures)
    drawn = {
        name
        for number in range(-(-len(job.rows) // job.batch))
        for name in unpack_pictures(part_path(job.out, settings.task, number), pictures)
    }
    for path in pictures.iterdir():  # of rows that an accepted change took away
        if is_picture(path.name) and path.name not in drawn:
            path.unlink()
    print(
        f"{pictures}: {len(job.rows) - failed} of {len(job.rows)} rows drawn, {failed} failed (errors.jsonl)"
    )
