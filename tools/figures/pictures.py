"""Pictures of the model card and of README, drawn anew: `python -m tools.figures.pictures` writes
docs/styles.png, docs/held-out.png and docs/embedded.png."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vd_core import MODEL, Sampling, VersatileDiffusion, load
from vd_core.embedded import FOLDER
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.sheets import write_grid

DOCS = Path(__file__).resolve().parents[2] / "docs"
SAMPLING = Sampling("dpmpp_2m", steps=20, cfg=2.0)
THINGS = ("rocket", "cactus", "fox", "owl", "castle", "guitar")
THINGS += ("pizza", "umbrella", "skull", "strawberry", "penguin", "motorcycle")
PAIRS = (
    *("rocket, 3d style", "avocado, noto style", "unicorn, 3d style", "tiger, line style"),
    *("fox, flat style", "owl, noto style", "anchor, flat style", "castle, blob style"),
    *("watermelon, noto style", "taxi, line style", "shrimp, 3d style", "alien, 3d style"),
)


def draw(model: VersatileDiffusion, texts: list[str], pictures: Tensor | None = None) -> Tensor:
    """Draw one picture for each text, or vary each of some pictures [B, 3, 64, 64]."""
    context = model.encode_text(texts) if pictures is None else model.encode_image(pictures)
    blank = torch.zeros(len(texts), 16, 8, 8)
    return model.image_vae.decode(model.sample("image", context, blank, 1, SAMPLING))


def compare(model: VersatileDiffusion, data: CaptionedPictures, indices: Tensor) -> list[Tensor]:
    """Rows of real pictures, of pictures of their captions, and of their variations."""
    captions, real = [data.captions[i] for i in indices], data.pixels[indices]
    return [real, draw(model, captions), draw(model, captions, real)]


@torch.inference_mode()
def main() -> None:
    """Draw the three pictures."""
    model, data = load(MODEL), CaptionedPictures.load(FOLDER)
    write_grid(
        [draw(model, [f"{thing}, {style} style" for thing in THINGS]) for style in data.styles],
        DOCS / "styles.png",
    )
    evenly = torch.linspace(0, len(data.held_out) - 1, 24).long()
    write_grid(compare(model, data, data.held_out[evenly]), DOCS / "held-out.png")
    chosen = torch.tensor([data.captions.index(pair) for pair in PAIRS])
    write_grid(compare(model, data, chosen), DOCS / "embedded.png")


if __name__ == "__main__":
    main()
