"""What a LoRA on four pictures changes in the embedded model: its subject, the subject's class, and
everything else.

python benchmarks/lora_subject.py RUN    # about 5 minutes on one idle core; RUN/before-after.png to look at

The subject is a car with two colours exchanged, under a word that the model has never read. A drawn picture
is right when its latent is nearer to that of its own picture than to those of all 1,279 pictures of the data
and the 4 of the subject.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.pictures import to_pil
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.settings import LoraSettings, PriorSettings, Settings
from vd_core.training.sheets import write_grid
from vd_core.training.train import train

STYLES = ("blob", "flat", "noto", "3d")


def write(folder: Path, pictures: Tensor, captions: list[str]) -> None:
    """Write a folder as users have it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (picture, caption) in enumerate(zip(to_pil(pictures), captions, strict=True)):
        picture.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(caption, encoding="utf-8")


def draw(vd: VersatileDiffusion, captions: list[str], seed: int) -> Tensor:
    """Draw a latent per caption."""
    start = torch.zeros(len(captions), 16, 8, 8)
    return vd.sample(
        "image",
        [vd.encode_text(captions)],
        start,
        sample_noise(seed),
        Sampling("dpmpp_2m", steps=20, cfg=2.0),
    )


def main(run: Path) -> None:
    """Make the pictures, train, compare."""
    data, vd = CaptionedPictures.load(FOLDER), load(MODEL)
    cars = [data.captions.index(f"car, {style} style") for style in STYLES]
    shuffled = data.train[
        torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    ].tolist()
    kept, others = shuffled[:64], [i for i in shuffled[64:] if i not in cars][:24]
    subject = data.pixels[cars][:, [1, 0, 2]]
    names = [data.captions[i].replace("car", "zuka car") for i in cars]
    write(run / "subject", subject, names)
    write(run / "class", data.pixels[kept + cars], [data.captions[i] for i in kept + cars])
    settings = Settings(
        stages=(((("image", "text"),), 300),),
        size=64,
        batch=8,
        lr=1e-3,
        warmup=20,
        ema=0.99,
        sheet_size=0,
        lora=LoraSettings(8, 8.0, ("context:attn",)),
        prior=PriorSettings(run / "class"),
    )
    lora = train(run / "subject", MODEL, run / "lora", settings)

    with torch.inference_mode():
        latents = torch.cat(
            [vd.image_vae.encode(chunk) for chunk in torch.cat([data.pixels, subject]).split(64)]
        )
    prompts = {
        "the subject": 6 * names,
        "its class": 6 * [data.captions[i] for i in cars],
        "24 others": [data.captions[i] for i in others],
    }
    own = {
        "the subject": 6 * [len(data.pixels) + i for i in range(4)],
        "its class": 6 * cars,
        "24 others": others,
    }
    before, reseeded = (
        {name: draw(vd, captions, seed) for name, captions in prompts.items()} for seed in (7, 8)
    )
    apply_lora(vd, lora)
    after = {name: draw(vd, captions, 7) for name, captions in prompts.items()}
    for name in prompts:
        right = [
            float(
                (torch.cdist(z[name].flatten(1), latents.flatten(1)).argmin(1) == torch.tensor(own[name]))
                .float()
                .mean()
            )
            for z in (before, after)
        ]
        moved, seeds = (float((z[name] - before[name]).square().mean().sqrt()) for z in (after, reseeded))
        print(
            f"{name}: right {right[0]:.2f} before, {right[1]:.2f} after; moved by {moved:.2f}, another seed "
            f"by {seeds:.2f} (RMS of latents)"
        )
    with torch.inference_mode():
        rows = [torch.cat([vd.image_vae.decode(z[name][:4]) for name in prompts]) for z in (before, after)]
    write_grid(rows, run / "before-after.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
