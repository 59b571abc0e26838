"""Sheets of a user's training: what each flow makes of the first samples, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..context import Context
from ..diffuser.model import Diffuser
from ..files import write_whole
from ..flows import VersatileDiffusion
from ..pictures import to_pil
from ..sampling.noise import sample_noise
from ..sampling.options import Sampling
from ..sheet import draw_sheet
from .prepared import Flow, Prepared


class Sheets:
    """Draws the same samples from the same noise at every step, so that sheets compare.

    vd:       gives the decoders.
    count:    how many samples; 0 draws none.
    sampling: how they are drawn.
    """

    def __init__(
        self,
        vd: VersatileDiffusion,
        pictures: Prepared,
        flows: Sequence[Flow],
        count: int,
        sampling: Sampling,
    ):
        self.vd, self.flows, self.sampling = vd, flows, sampling
        self.count = min(count, len(pictures.captions))
        self.data, self.captions = pictures.flows, pictures.captions[: self.count]

    @torch.no_grad()
    def write(self, diffuser: Diffuser, out: Path, step: int) -> None:
        """Write `out`/sheet-STEP.png, the pictures with their captions and a row per flow to pictures, and
        `out`/sheet-STEP.txt, the sentences of flows to texts."""
        if not self.count:
            return
        vd, rows, labels, lines = self.vd.replace(diffuser=diffuser), [], [], []
        pictured = any(data == "image" for data, _ in self.flows)
        if pictured:
            rows.append(vd.image_vae.decode(self.latents("image")))
            labels += self.captions
        for data, kind in self.flows:
            result = self.sample(vd, data, kind)
            if data == "image":
                rows.append(vd.image_vae.decode(result))
                labels += [f"{kind} to image"] * self.count
            else:
                generators = [torch.Generator().manual_seed(1) for _ in result]
                sentences = vd.text_vae.decode(result, generators, temperature=0)
                pairs = zip(self.captions, sentences, strict=True)
                lines += [f"{kind} to text, {caption}: {sentence}" for caption, sentence in pairs]
        if rows:
            with write_whole(out / f"sheet-{step:06}.png") as file:
                to_pil(draw_sheet(torch.cat(rows), self.count, labels, f"step {step}"))[0].save(file, "PNG")
        if lines:
            with write_whole(out / f"sheet-{step:06}.txt") as file:
                file.write("".join(f"{line}\n" for line in lines).encode())

    def latents(self, data: str) -> Tensor:
        """Return the samples' own latents, unscaled."""
        return self.data.latents[data][: self.count] / self.vd.config.diffuser.data[data].latent_scale

    def sample(self, vd: VersatileDiffusion, data: str, kind: str) -> Tensor:
        """Sample unscaled latents of one flow, on the CPU."""
        weight = next(vd.diffuser.parameters())
        context = Context(kind, self.data.contexts[kind][: self.count].float(), self.data.null(data, kind))
        start = torch.zeros_like(self.latents(data)).to(weight.device)
        with torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype != torch.float32):
            return vd.sample(data, [context], start, sample_noise(1), self.sampling).float().cpu()
