"""What a bulk job does with a batch of rows: caption, variation, text-to-image or embed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..context import Context
from ..diffuser.overflow import named_layers, named_where_not_finite
from ..embedded import MODEL
from ..flows import VersatileDiffusion
from ..pictures import from_pil, resize_and_crop, to_pil
from ..sampling.noise import SampleNoise, seeded
from ..sampling.options import Sampling
from .rows import Row, read_pictures, read_texts

READS = {"caption": "picture", "variation": "picture", "text-to-image": "text", "embed": "picture", "embed-text": "text"}
PARTS = {  # of the model, by task
    "caption": ("clip_vision", "diffuser.data.text", "diffuser.context.image", "text_vae"),
    "variation": ("clip_vision", "diffuser.data.image", "diffuser.context.image", "image_vae"),
    "text-to-image": ("clip_text", "diffuser.data.image", "diffuser.context.text", "image_vae"),
    "embed": ("clip_vision",),
    "embed-text": ("clip_text",),
}


@dataclass(frozen=True)
class Settings:
    """What decides the results of a job, and nothing else does.

    models: files that together hold the model. count: results per row. size: side of the pictures that are made, in pixels; 0 = 512,
    or 64 with the embedded model. The others are those of `VersatileDiffusion.sample`.
    """

    task: str
    models: tuple[str, ...] = (str(MODEL),)
    count: int = 1
    seed: int = 0
    steps: int = 20
    cfg: float = 7.5
    sampler: str = "dpmpp_2m"
    size: int = 0

    def __post_init__(self) -> None:
        if self.task not in READS:
            raise ValueError(f"The task is one of {', '.join(READS)}, got {self.task!r}.")
        if self.count < 1 or self.size < 0 or self.size % 8:
            raise ValueError(f"A job makes at least one result per row, of a size divisible by 8, got {self.count} of {self.size}.")


Result = dict[str, object]  # id, error ("" where there is none), and what the task gives


class Runner:
    """One model, and the task that it runs on batches of rows. A result depends, up to rounding, on its row and the settings alone."""

    def __init__(self, settings: Settings):
        from ..checkpoints.load import load

        self.settings = settings
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = on(self.device, load(list(settings.models), parts=list(PARTS[settings.task])))
        embedded = settings.models == (str(MODEL),)
        self.size = settings.size or (64 if embedded else 512)

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Row]) -> list[Result]:
        """A result per row, in their order; what goes wrong with a row is its `error`."""
        read = read_pictures if READS[self.settings.task] == "picture" else read_texts
        found = read(rows)
        made = iter(self.run([(row, value) for row, value in zip(rows, found, strict=True) if not isinstance(value, ValueError)]))
        return [
            {"id": row.id, "error": str(value)} if isinstance(value, ValueError) else next(made)
            for row, value in zip(rows, found, strict=True)
        ]

    def run(self, rows: list[tuple[Row, Image.Image | str]]) -> list[Result]:
        """The results of rows that could be read. Where a batch fails, each row is tried alone."""
        if not rows:
            return []
        try:
            made = getattr(self, self.settings.task.replace("-", "_"))(rows)
        except (ValueError, RuntimeError) as error:
            if len(rows) == 1:
                return [{"id": rows[0][0].id, "error": f"{rows[0][0].id} failed: {error}"}]
            return [result for row in rows for result in self.run([row])]
        return [{"id": row.id, "error": "", **result} for (row, _), result in zip(rows, made, strict=True)]

    def caption(self, rows) -> list[Result]:
        """Pictures -> `captions`, a list of texts each."""
        black = torch.zeros(1, 3, *[self.model.config.clip.image_size] * 2)
        context = Context("image", self.looked_at(rows), self.model.clip.encode_image(black))
        data = self.model.config.diffuser.data["text"]
        generators = self.generators(rows, "words")
        latents = self.sampled("text", context, (data.channels,), rows)
        texts = self.model.text_vae.decode(latents, generators)
        return [{"captions": texts[i : i + self.settings.count]} for i in range(0, len(texts), self.settings.count)]

    def variation(self, rows) -> list[Result]:
        """Pictures -> `pictures`, PNG files."""
        return self.drawn(Context("image", self.looked_at(rows)), rows)

    def text_to_image(self, rows) -> list[Result]:
        """Prompts -> `pictures`, PNG files."""
        return self.drawn(self.model.encode_text([text for _, text in rows]), rows)

    def embed(self, rows) -> list[Result]:
        """Pictures -> `embedding`, CLIP's global one, of norm 1."""
        return [{"embedding": vector.tolist()} for vector in self.looked_at(rows)[:, 0].float()]

    def embed_text(self, rows) -> list[Result]:
        """Texts -> `embedding`, CLIP's global one, of norm 1."""
        return [{"embedding": vector.tolist()} for vector in self.model.clip.embed_text([text for _, text in rows]).float()]

    def looked_at(self, rows) -> Tensor:
        """Pictures of any sizes -> their image tokens [B, n, d]."""
        size = self.model.config.clip.image_size
        pictures = torch.cat([resize_and_crop(from_pil([picture]), size) for _, picture in rows])
        return self.model.clip.encode_image(pictures.to(self.device))

    def drawn(self, context: Context, rows) -> list[Result]:
        """PNG files under a context with a sample per row."""
        data = self.model.config.diffuser.data["image"]
        latents = self.sampled("image", context, (data.channels, self.size // 8, self.size // 8), rows)
        files = [png(picture) for picture in to_pil(self.model.image_vae.decode(latents))]
        return [{"pictures": files[i : i + self.settings.count]} for i in range(0, len(files), self.settings.count)]

    def sampled(self, data: str, context: Context, shape: tuple[int, ...], rows) -> Tensor:
        """Latents [rows * count, …] under a context with a sample per row. Raises ValueError where they are not finite."""
        count, settings = self.settings.count, self.settings
        repeated = replace(context, tokens=context.tokens.repeat_interleave(count, dim=0))
        latent = torch.zeros(len(rows) * count, *shape, device=self.device)

        def run() -> Tensor:
            noise = SampleNoise(iter(self.generators(rows, "noise")))
            sampling = Sampling(settings.sampler, settings.steps, settings.cfg)
            return self.model.sample(data, [repeated], latent, noise, sampling)

        return named_where_not_finite(run, named_layers(self.model.diffuser, data), repeated.tokens)

    def generators(self, rows, purpose: str) -> list[torch.Generator]:
        """A stream of random numbers for each result, from the seed, the row's id and the number of the result."""
        names = [f"{self.settings.seed} {purpose} {number} {row.id}" for row, _ in rows for number in range(self.settings.count)]
        return [seeded(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")) for name in names]


def on(device: str, model: VersatileDiffusion) -> VersatileDiffusion:
    """The model with its parts on a device."""
    for part in (model.diffuser, model.clip, model.image_vae, model.text_vae):
        if part is not None:
            part.to(device)
    return model


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def known(models: Sequence[str | Path]) -> tuple[str, ...]:
    """Model files by their full paths, so that a job means the same from every folder. Raises FileNotFoundError."""
    for path in models:
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no model file {path}.")
    return tuple(str(Path(path).resolve()) for path in models)
