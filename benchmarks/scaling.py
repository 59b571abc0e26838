"""How the cost grows: `python benchmarks/scaling.py [--size small] [--flow image-variation] [--plots DIR]`.

Seconds of a guided step against the side of the picture, the batch, the number of contexts and of their
tokens, and seconds of a run against its steps, ours and the plain baseline's, taking turns. For each a fitted
exponent k of seconds = a · nᵏ, and a plot.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.baseline import make_plain_diffuser, make_plain_step
from benchmarks.cases import CFG, FLOWS, Case, add_size_options, make_case
from benchmarks.measure import DTYPES, add_machine_options, alternate, write_record
from benchmarks.speed import make_step
from vd_core.diffuser.model import Diffuser
from vd_core.plots import COLORS, Curve, plot
from vd_core.sampling.generate import generate
from vd_core.sampling.guidance import guide
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling

POINTS = {  # what grows, and the values it takes; "pixels" are measured as sides and counted as areas
    "pixels": (64, 128, 192, 256),
    "batch": (1, 2, 4, 8),
    "contexts": (1, 2, 3, 4),
    "tokens": (77, 257, 514, 1028),
    "steps": (1, 2, 4, 8),
}
LABELS = {
    "pixels": "pixels of the picture / 1000",
    "batch": "batch",
    "contexts": "contexts",
    "tokens": "tokens",
    "steps": "steps",
}


def grow(case: Case, what: str, value: int) -> Case:
    """Grow the case with more of something; contexts alternate between pictures and texts."""
    if what == "contexts":
        kinds = tuple(("image", "text")[number % 2] for number in range(value))
        return replace(case, kinds=kinds)
    return case if what == "steps" else replace(case, **{what: value})


def make_runs(
    case: Case, what: str, value: int, diffuser: Diffuser, plain: Diffuser
) -> dict[str, Callable[[], object]]:
    """Make what contestants run at one point: a guided step, or for "steps" a whole run of official DDIM."""
    our, their = make_step(case, diffuser), make_plain_step(case, plain)
    if what != "steps":
        return {"ours": our, "baseline": their}

    def run(denoise: Callable[[Tensor, int], Tensor] | None) -> Tensor:
        prepared = denoise or guide(diffuser, case.schedule, case.contexts, case.data, CFG)
        return generate(prepared, case.schedule, case.latent, sample_noise(0), Sampling(steps=value))

    return {"ours": lambda: run(None), "baseline": lambda: run(lambda x, t: their())}


def fit_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit (a, k) of the least-squares line log seconds = log a + k log size. Raises ValueError for fewer than
    two sizes."""
    if len(set(sizes)) < 2:
        raise ValueError(f"An exponent is fitted to at least two sizes, got {list(sizes)}.")
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sum(
        (a - x_mean) ** 2 for a in x
    )
    return math.exp(y_mean - slope * x_mean), slope


def measure_curve(what: str, case: Case, values: Sequence[int], options: argparse.Namespace) -> dict:
    """Measure the curve of one thing that grows."""
    seconds = {"ours": [], "baseline": []}
    # One set of weights for all points; contexts need both kinds of layers.
    widest = replace(case, kinds=("image", "text")) if what == "contexts" else case
    diffuser, plain = widest.diffuser, make_plain_diffuser(widest.diffuser)
    for value in values:
        point = grow(case, what, value)
        for name, measured in alternate(
            make_runs(point, what, value, diffuser, plain), options.repeats, options.device
        ).items():
            seconds[name].append(median(measured))
    sizes = [value**2 / 1000 for value in values] if what == "pixels" else list(values)
    fits = {name: fit_exponent(sizes, those) for name, those in seconds.items()}
    return {
        "what": what,
        "sizes": sizes,
        "seconds": seconds,
        "fits": fits,
        "exponents": {name: fit[1] for name, fit in fits.items()},
    }


def draw_picture(row: dict, title: str) -> Image.Image:
    """Draw the measured points of a row, and the fitted curves."""
    low, high = row["sizes"][0], row["sizes"][-1]
    along = [low + (high - low) * i / 60 for i in range(61)]
    curves = []
    for (name, seconds), color in zip(row["seconds"].items(), COLORS, strict=False):
        a, k = row["fits"][name]
        curves += [
            Curve(f"{name}: exponent {k:.2f}", along, [a * size**k for size in along], color=color),
            Curve("", row["sizes"], seconds, "dots", color),
        ]
    drawn, _ = plot(
        curves, title, LABELS[row["what"]], "seconds", y=(0.0, 1.08 * max(map(max, row["seconds"].values())))
    )
    return Image.fromarray((drawn[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print, draw and write what the command line asks for; returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size_options(parser)
    add_machine_options(parser)
    parser.add_argument("--flow", choices=FLOWS, default="image-variation")
    parser.add_argument("--only", nargs="+", choices=POINTS, default=list(POINTS), help="what grows")
    parser.add_argument("--plots", type=Path, help="folder for the plots")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    case = make_case(options.flow, options, DTYPES[options.dtype])
    rows = []
    for what in options.only:
        if what == "pixels" and case.data == "text":
            continue
        row = {
            name: getattr(options, name) for name in ("size", "flow", "pixels", "batch", "dtype", "repeats")
        }
        rows.append(row | measure_curve(what, case, POINTS[what], options))
        times = ", ".join(f"{name} exponent {k:.2f}" for name, k in rows[-1]["exponents"].items())
        print(
            f"{what:9} {times}; ours {', '.join(f'{value:.4g}' for value in rows[-1]['seconds']['ours'])} s",
            flush=True,
        )
        if options.plots is not None:
            options.plots.mkdir(parents=True, exist_ok=True)
            title = f"{options.flow}, {options.size} size, {options.dtype}"
            draw_picture(rows[-1], title).save(options.plots / f"scaling-{what}.png")
        write_record("scaling", options, rows)  # after every row: a run that is stopped keeps them
    return rows


if __name__ == "__main__":
    main()
