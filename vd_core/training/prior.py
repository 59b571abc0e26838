"""Pictures of a class for DreamBooth's prior preservation, drawn by the model before it is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from ..checkpoints.load import Paths, load
from ..checkpoints.parts import parts_of_flow
from ..files import make_folder, write_whole
from ..pictures import to_pil
from ..sampling.noise import sample_noise
from ..sampling.options import Sampling
from . import distributed

log = logging.getLogger(__name__)


def draw_prior(model: Paths, folder: Path, prompts: tuple[str, ...], count: int, size: int, cfg: float, device: torch.device) -> Path:
    """Fill a folder with `count` pictures of side `size` for the prompts in turn, each with its prompt as .txt, and return it.

    Pictures that are there already are kept, so a stopped run goes on. Raises ValueError without prompts.
    """
    if not prompts:
        raise ValueError("Prior preservation needs --prior with pictures of the class, or --prior-prompts to draw them.")
    missing = [number for number in range(count) if not (folder / f"{number:05}.txt").exists()]
    if missing and distributed.is_first():
        make_folder(folder)
        vd = load(model, parts=parts_of_flow("image", "text"))
        vd.diffuser.to(device)
        channels, side = vd.config.diffuser.data["image"].channels, size // vd.image_vae.factor
        contexts = {prompt: vd.encode_text([prompt]) for prompt in prompts}
        for number in missing:
            prompt = prompts[number % len(prompts)]
            start = torch.zeros(1, channels, side, side, device=device)
            noise = sample_noise(number)
            latent = vd.sample("image", [contexts[prompt]], start, noise, Sampling("dpmpp_2m", steps=20, cfg=cfg))
            with torch.inference_mode():
                picture = to_pil(vd.image_vae.decode(latent.cpu()))[0]
            with write_whole(folder / f"{number:05}.png") as file:
                picture.save(file, "PNG")
            with write_whole(folder / f"{number:05}.txt") as file:
                file.write(prompt.encode())
            log.info("prior picture %d of %d", number + 1, count)
    distributed.wait()
    return folder
