"""The judge: a classifier of names and styles, trained apart from the model on all real pictures, that scores
what the model draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .clip import distort
from .dataset import CaptionedPictures
from .loop import fit

EPOCHS, BATCH = 100, 64


class Judge(nn.Module):
    """A small convolutional net: pictures [B, 3, 64, 64] in 0..1 -> logits of the names [B, names] and of the
    styles [B, styles].

    It shares no weight, no architecture and no training with the model that it judges, and is never shipped.
    It has seen the pictures that are held out from the model, since it must know what they show.
    """

    def __init__(self, names: int, styles: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 128, 1), (128, 256, 2)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()).to(
            memory_format=torch.channels_last
        )
        self.name, self.style = nn.Linear(4 * 256, names), nn.Linear(4 * 256, styles)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features((2 * images - 1).contiguous(memory_format=torch.channels_last)).float()
        return self.name(h), self.style(h)

    @torch.no_grad()
    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest name and style of each picture [N, 3, 64, 64] in 0..1, int64 [N]."""
        both = [self(chunk) for chunk in images.split(256)]
        name, style = (torch.cat(logits).argmax(dim=1) for logits in zip(*both, strict=True))
        return name, style


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil pictures [B, 3, S, S] in 0..1 by what a judge of generated ones must look past: distort them, and
    blur, fade or roughen some."""
    count = len(images)
    images = distort(images, generator)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, torch.rand(count, 1, 1, 1, generator=generator))
    gain = 1 + 0.15 * torch.randn(count, 3, 1, 1, generator=generator)
    noise = (
        0.05
        * torch.rand(count, 1, 1, 1, generator=generator)
        * torch.randn(images.shape, generator=generator)
    )
    return (1 - gain * (1 - images) + noise).clamp(0, 1)


def judge_losses(data: CaptionedPictures, batch: int = BATCH):
    """Make a loss function for `loop.fit`: cross-entropies of name and style over all pictures of `data`,
    spoiled again each time."""

    def losses(judge: Judge, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randperm(len(data.images), generator=generator)[:batch]
        pictures = spoil(data.pixels[chosen], generator)
        with torch.autocast("cpu", torch.bfloat16):
            name, style = judge(pictures)
        yield (
            "judge",
            F.cross_entropy(name.float(), data.name[chosen])
            + F.cross_entropy(style.float(), data.style[chosen]),
        )

    return losses


def train_judge(data: CaptionedPictures, out: Path, steps: int | None = None) -> Judge:
    """Train the judge of these pictures in the folder `out`, or load it when it is there; by default it sees
    each picture EPOCHS times.

    Raises ValueError when the judge in `out` is one of other pictures.
    """
    from .small_model import digest

    torch.manual_seed(0)
    judge = Judge(len(data.names), len(data.styles))
    trained_on = {"data": digest([data.images, data.name, data.style])}
    steps = steps or max(1, EPOCHS * len(data.images) // BATCH)
    return fit(judge, judge_losses(data), out, steps=steps, lr=2e-3, trained_on=trained_on, ema=0.99)
