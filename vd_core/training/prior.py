"""Pictures of a class for DreamBooth's prior preservation, drawn by the model before it is trained."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.load import Paths, load
from ..checkpoints.parts import list_flow_parts
from ..files import write_whole
from ..pictures import to_pil
from ..runs import is_recorded, lock_folder
from ..sampling.noise import sample_noise
from ..sampling.options import Sampling
from . import distributed
from .prepared import hash_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorDrawing:
    """What is drawn: `count` pictures of side `size` for the prompts in turn, with guidance `cfg`."""

    prompts: tuple[str, ...]
    count: int
    size: int
    cfg: float


def draw_prior(
    model: Paths, folder: Path, drawing: PriorDrawing, device: torch.device, accept_changes: bool = False
) -> Path:
    """Fill a folder with pictures, each with its prompt as .txt, and return it.

    Pictures that are there already are kept, so a stopped run goes on, and one with a larger count too.
    accept_changes: draw all again where model, prompts, size or guidance have changed. Raises ValueError
    without prompts, and for changes that are not accepted.
    """
    if not drawing.prompts:
        raise ValueError(
            "Prior preservation needs --prior with pictures of the class, or --prior-prompts to draw them."
        )
    if distributed.is_first():
        with lock_folder(folder):
            made_from: dict[str, Any] = {"model": hash_model(model), "prompts": list(drawing.prompts)}
            made_from |= {"size": drawing.size, "cfg": drawing.cfg}
            if not is_recorded(folder / "made_from.json", made_from, accept_changes):
                for path in (*folder.glob("*.png"), *folder.glob("*.txt")):
                    path.unlink()
                with write_whole(folder / "made_from.json") as file:
                    file.write(json.dumps(made_from, indent=1).encode())
            numbers = range(drawing.count)
            if missing := [number for number in numbers if not (folder / f"{number:05}.txt").exists()]:
                draw_pictures(model, folder, drawing, missing, device)
    distributed.wait()
    return folder


def draw_pictures(
    model: Paths, folder: Path, drawing: PriorDrawing, numbers: list[int], device: torch.device
) -> None:
    """Draw pictures, each from the noise of its number; its text comes last and says that it is whole."""
    vd = load(model, parts=list_flow_parts("image", "text"))
    vd.diffuser.to(device)
    channels, side = vd.config.diffuser.data["image"].channels, drawing.size // vd.image_vae.factor
    contexts = {prompt: vd.encode_text([prompt]) for prompt in drawing.prompts}
    sampling = Sampling("dpmpp_2m", steps=20, cfg=drawing.cfg)
    for number in numbers:
        prompt = drawing.prompts[number % len(drawing.prompts)]
        start = torch.zeros(1, channels, side, side, device=device)
        latent = vd.sample("image", [contexts[prompt]], start, sample_noise(number), sampling)
        with torch.inference_mode():
            picture = to_pil(vd.image_vae.decode(latent.cpu()))[0]
        with write_whole(folder / f"{number:05}.png") as file:
            picture.save(file, "PNG")
        with write_whole(folder / f"{number:05}.txt") as file:
            file.write(prompt.encode())
        log.info("prior picture %d of %d", number + 1, drawing.count)
