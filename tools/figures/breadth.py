"""What the embedded model makes of pictures by other hands, and how four seeds differ:
`python -m tools.figures.breadth JUDGE [--model FILE]`.

JUDGE: the folder of the classifier that scores, as `python -m vd_core evaluate --judge` trains it.
Twemoji and OpenMoji are fetched with npm, like the model's own pictures; no part was trained on them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.pictures import from_pil
from vd_core.ranking import similarity
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.emoji import NAMES, fetch, fetch_slugs, make_iconify_renderer, place_on_white
from vd_core.training.evaluate import SAMPLING, compare_names, find_doubt, read, write
from vd_core.training.judge import Judge, train_judge

from .few_steps import draw
from .picture_quality import measure_seed_difference, summarize

PACKAGES = {"Twemoji": "@iconify-json/twemoji@1.2.5", "OpenMoji": "@iconify-json/openmoji@1.2.29"}
SEEDS = 4

Render = Callable[[str], Image.Image | None]  # of a character


def render_known(render: Render, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Draw what the model knows: numbers of names [N], pictures [N, 3, 64, 64] in 0..1."""
    characters = dict(NAMES)
    drawn = {n: picture for n, name in enumerate(names) if (picture := render(characters[name])) is not None}
    return torch.tensor(list(drawn)), from_pil([place_on_white(picture) for picture in drawn.values()])


def render_unknown(render: Render, codes: Iterable[str], names: Sequence[str]) -> Tensor:
    """Draw all other things among these code points, pictographs of one character."""
    known = {ord(character[0]) for name, character in NAMES if name in names}
    others = {int(code, 16) for code in codes if "-" not in code}
    pictures = [render(chr(code)) for code in sorted(others - known) if code > 0x1F300]
    return from_pil([place_on_white(p) for p in pictures if p is not None and p.getchannel("A").getbbox()])


def caption(model: VersatileDiffusion, pictures: Tensor) -> tuple[list[str], Tensor]:
    """Say what pictures show, and which captions are in doubt, bool [N] (see `ClipConfig`)."""
    context = model.encode_image(pictures, null="black")  # the official choice for text output
    said = read(model, write(model, [context], len(pictures)))
    return said, find_doubt(model, context, said)


@torch.inference_mode()
def measure_outside(model: VersatileDiffusion, judge: Judge, data: CaptionedPictures) -> Iterator[str]:
    """Write a line for each set of drawings, names in captions, nearest to CLIP and kept by variations; and
    one on doubt: the shares of captions that it marks, of the held-out pictures and all of these."""
    said, doubt = caption(model, data.pixels[data.held_out])
    right = compare_names(said, [data.captions[i] for i in data.held_out])
    marks = {"right": [doubt[right]], "wrong": [doubt[~right]], "unknown things": []}
    slugs, texts = fetch_slugs(), model.clip.embed_text(data.names)
    for word, package in PACKAGES.items():
        files = fetch(package)
        render = make_iconify_renderer(files, slugs)
        numbers, pictures = render_known(render, data.names)
        said, doubt = caption(model, pictures)
        right = compare_names(said, [data.names[number] for number in numbers])
        context = model.encode_image(pictures)
        nearest = similarity(context.tokens[:, 0], texts).argmax(dim=1) == numbers
        drawn = [draw(model, context, seed, SAMPLING) for seed in range(SEEDS)]
        kept = summarize([float((judge.read(d)[0] == numbers).float().mean()) for d in drawn])
        yield (
            f"{word}, {len(numbers)} pictures: captions name {right.float().mean():.3f}, nearest name "
            f"{nearest.float().mean():.3f}, variations keep {kept}"
        )
        unknown = render_unknown(render, json.loads(files["chars.json"]), data.names)
        doubts = (doubt[right], doubt[~right], caption(model, unknown)[1])
        for found, more in zip(marks.values(), doubts, strict=True):
            found.append(more)
    together = {kind: torch.cat(found).float() for kind, found in marks.items()}
    shares = [f"{marked.mean():.3f} of {len(marked)} {kind}" for kind, marked in together.items()]
    yield f"captions in doubt, with those of the held-out pictures: {', '.join(shares)}"


@torch.inference_mode()
def measure_variety(model: VersatileDiffusion, judge: Judge, names: Sequence[str], cfg: float) -> str:
    """Measure how seeds of names without a style differ: in pixels, and in styles."""
    context = model.encode_text(names)
    sampling = Sampling(SAMPLING.sampler, SAMPLING.steps, cfg)
    drawn = [draw(model, context, seed, sampling) for seed in range(SEEDS)]
    styles = torch.stack([judge.read(pictures)[1] for pictures in drawn])
    shown = torch.tensor([float(len(column.unique())) for column in styles.T])
    return (
        f"{SEEDS} seeds of a name without a style, cfg {cfg}: they differ by "
        f"{measure_seed_difference(torch.stack(drawn)):.3f} and show {shown.mean():.2f} styles"
    )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judge", type=Path, metavar="JUDGE")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE", help="another one of its layout")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, data = load(options.model), CaptionedPictures.load(FOLDER)
    judge = train_judge(data, options.judge)
    for line in measure_outside(model, judge, data):
        print(line, flush=True)
    for cfg in (1.0, 1.5):
        print(measure_variety(model, judge, data.names[::4], cfg), flush=True)


if __name__ == "__main__":
    main()
