"""Adds melodies to the embedded model as a third kind, trains its five new flows beside the four old ones,
which stay as they are.

python -m research.melodies.train RUN   # resumes; writes RUN/melody.safetensors, the new layers
"""

from __future__ import annotations

import argparse
import json
import logging
from itertools import chain
from pathlib import Path

import torch

from vd_core.checkpoints.load import load
from vd_core.checkpoints.write import save_model
from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.schedule import Schedule
from vd_core.training.clip import distort
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.diffuser import FlowData, flow_losses, initialise
from vd_core.training.loop import fit
from vd_core.training.small_model import digest

from . import autoencoder
from .encoder import encode_melody
from .melodies import write_songbook

KIND = Path(__file__).with_name("kind.json")
VIEWS = 4  # of each picture: itself, and distorted ones
# Samples per step of the new flows (output kind, condition kind).
BATCHES = {
    ("melody", "text"): 48,
    ("melody", "image"): 48,
    ("melody", "melody"): 8,
    ("text", "melody"): 24,
    ("image", "melody"): 16,
}


def extend(config: VDConfig) -> VDConfig:
    """Extend a config with the kinds of kind.json beside its own."""
    values = config.to_dict()
    for group, kinds in json.loads(KIND.read_text(encoding="utf-8")).items():
        values["diffuser"][group] |= kinds
    return VDConfig.from_dict(values)


def grow(vd: VersatileDiffusion) -> VersatileDiffusion:
    """Grow a model with the layers of the new kind, which alone are to be trained; they start as those of
    texts where the shapes are equal."""
    config = extend(vd.config)
    torch.manual_seed(0)
    diffuser = Diffuser(config.diffuser)
    initialise(diffuser)
    state, old = diffuser.state_dict(), vd.diffuser.state_dict()
    alike = {key.replace(".text.", ".melody."): tensor for key, tensor in old.items() if ".text." in key}
    diffuser.load_state_dict(
        {key: t for key, t in (alike | old).items() if t.shape == state[key].shape}, strict=False
    )
    for name, parameter in diffuser.named_parameters():
        parameter.requires_grad_(".melody." in name)
    return vd.replace(config, diffuser=diffuser)


@torch.no_grad()
def make_flow_data(vd: VersatileDiffusion, data: CaptionedPictures) -> dict[str, FlowData]:
    """Make what the new flows are trained on, by the kind of their condition: training pictures alone, their
    captions and melodies."""
    images, captions = data.pixels[data.train], [data.captions[i] for i in data.train]
    generator = torch.Generator().manual_seed(0)
    views = torch.cat([images, *(distort(images, generator, strength=0.5) for _ in range(VIEWS - 1))])
    played = write_songbook(data.names, len(data.styles))[data.name[data.train], data.style[data.train]]
    seen, heard = (
        torch.cat([vd.encode_image(chunk).tokens for chunk in views.split(64)]),
        encode_melody(played),
    )
    latents, scale = (
        torch.cat([vd.image_vae.encode(chunk) for chunk in images.split(64)]),
        vd.config.diffuser.data,
    )
    outputs = {
        "image": latents * scale["image"].latent_scale,
        "text": vd.text_vae.encode(captions) * scale["text"].latent_scale,
        "melody": autoencoder.encode(played),
    }
    text = vd.encode_text(captions)
    return {
        "text": FlowData(outputs, {"text": text.tokens}, {"text": text.unconditional}),
        "image": FlowData(
            {"melody": outputs["melody"].repeat(VIEWS, 1)},
            {"image": seen},
            {"image": torch.zeros_like(seen[:1])},
        ),
        "melody": FlowData(outputs, {"melody": heard.tokens}, {"melody": heard.unconditional[:1]}),
    }


def train(
    vd: VersatileDiffusion,
    data: CaptionedPictures,
    out: Path,
    steps: int,
    batches: dict[tuple[str, str], int] = BATCHES,
) -> Path:
    """Train the new layers, or resume; returns the file that holds them."""
    vd = grow(vd)
    flows, schedule = make_flow_data(vd, data), Schedule(vd.config.schedule)
    by_condition = [
        flow_losses(flows[k], schedule, {flow: size for flow, size in batches.items() if flow[1] == k})
        for k in flows
    ]
    diffuser = fit(
        vd.diffuser,
        lambda module, generator: chain.from_iterable(losses(module, generator) for losses in by_condition),
        out,
        steps=steps,
        lr=1e-3,
        trained_on={
            "model": digest(vd.diffuser.state_dict().values()),
            "data": digest([data.images, data.is_held_out]),
        },
        save_every=100,
    )
    new = Diffuser(vd.config.diffuser, ["melody"], ["melody"])
    new.load_state_dict(
        {key: tensor for key, tensor in diffuser.state_dict().items() if key in new.state_dict()}
    )
    save_model(out / "melody.safetensors", VersatileDiffusion(vd.config, new), dtype=torch.float16)
    return out / "melody.safetensors"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="RUN")
    parser.add_argument("--steps", type=int, default=2200)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    print(train(load(MODEL), CaptionedPictures.load(FOLDER), arguments.out, arguments.steps))
