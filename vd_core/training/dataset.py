"""Captioned pictures: what the small model is trained on and measured with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..files import make_folder, write_whole
from ..pictures import read_picture

CAPTION = "{name}, {style} style"


def write_caption(name: str, style: str) -> str:
    """Return the sentence that describes one picture."""
    return CAPTION.format(name=name, style=style)


def write_style_caption(style: str) -> str:
    """Return what a caption says about the style alone; a name alone is its own caption."""
    return f"{style} style"


@dataclass(frozen=True)
class CaptionedPictures:
    """N pictures, each of a thing (name) in a style.

    images: uint8 [N, 3, S, S]. name, style: int64 [N], indices into `names` and `styles`. is_held_out: bool
        [N], never trained on.
    """

    images: Tensor
    name: Tensor
    style: Tensor
    is_held_out: Tensor
    names: tuple[str, ...]
    styles: tuple[str, ...]

    @classmethod
    def load(cls, folder: str | Path) -> CaptionedPictures:
        """Read what `save` wrote. Raises FileNotFoundError for none, ValueError for damage."""
        sheet, index = Path(folder, "pictures.webp"), Path(folder, "pictures.json")
        for path in (sheet, index):
            if not path.exists():
                raise FileNotFoundError(
                    f"There is no {path}: build the data with `python -m vd_core.training.emoji {folder}` "
                    "first. Pictures of your own are trained on by `python -m vd_core train`."
                )
        pixels = torch.from_numpy(np.array(read_picture(sheet, str(sheet))))
        try:
            entries = json.loads(index.read_text(encoding="utf-8"))
            size, columns, names, styles = (entries[key] for key in ("size", "columns", "names", "styles"))
            tiles = rearrange(pixels, "(r h) (n w) c -> (r n) c h w", h=size, n=columns)
            name, style, held_out = (torch.tensor(entries[key]) for key in ("name", "style", "held_out"))
            images = tiles[: len(name)].contiguous()
            _ = names[int(name.max())], styles[int(style.max())], held_out[len(images) - 1]
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError, RecursionError) as error:
            advice = "write both again, or copy both from where they are whole"
            raise ValueError(f"{index} does not describe the pictures in {sheet.name}: {advice}.") from error
        return cls(images, name, style, held_out.bool(), tuple(names), tuple(styles))

    def save(self, folder: str | Path, columns: int = 32) -> None:
        """Write one lossless sheet, pictures.webp, and its index, pictures.json."""
        folder = Path(folder)
        make_folder(folder)
        size, blank = self.images.shape[-1], -len(self.images) % columns
        padded = torch.cat([self.images, self.images.new_full((blank, *self.images.shape[1:]), 255)])
        sheet = rearrange(padded, "(r n) c h w -> (r h) (n w) c", n=columns)
        with write_whole(folder / "pictures.webp") as file:
            Image.fromarray(sheet.numpy()).save(file, "WEBP", lossless=True, quality=100, method=6)
        entries = {"size": size, "columns": columns, "names": self.names, "styles": self.styles}
        entries |= {
            "name": self.name.tolist(),
            "style": self.style.tolist(),
            "held_out": self.is_held_out.int().tolist(),
        }
        with write_whole(folder / "pictures.json") as file:
            file.write(json.dumps(entries).encode())

    @cached_property
    def captions(self) -> list[str]:
        """Return one caption per picture."""
        return [
            write_caption(self.names[name], self.styles[style])
            for name, style in zip(self.name, self.style, strict=True)
        ]

    @property
    def all_captions(self) -> list[str]:
        """Return the captions of every name in every style, pictured or not, name by name."""
        return [write_caption(name, style) for name in self.names for style in self.styles]

    @cached_property
    def pixels(self) -> Tensor:
        """Return the pictures as float [N, 3, S, S] in 0..1."""
        return self.images.float() / 255

    @property
    def train(self) -> Tensor:
        """Return the indices of the training pictures."""
        return (~self.is_held_out).nonzero()[:, 0]

    @property
    def trained(self) -> CaptionedPictures:
        """The training pictures alone."""
        rows = self.train
        return replace(
            self,
            images=self.images[rows],
            name=self.name[rows],
            style=self.style[rows],
            is_held_out=self.is_held_out[rows],
        )

    @property
    def held_out(self) -> Tensor:
        """Return the indices of the pictures whose (name, style) pair is never trained on."""
        return self.is_held_out.nonzero()[:, 0]


def draw_partners(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for each of labels [N] the place of another of the same label, its own where there is none."""
    places = torch.arange(len(labels))
    for label in labels.unique():
        same = (labels == label).nonzero()[:, 0]
        same = same[torch.randperm(len(same), generator=generator)]
        places[same] = same.roll(1)
    return places
