"""What a bulk job does with a batch of rows: caption, variation, text-to-image or embed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image, ImageColor
from torch import Tensor

from ..checkpoints.hub import find_snapshot, is_name
from ..checkpoints.load import load, open_checkpoints
from ..choices import TASKS
from ..config import recommend_settings
from ..context import Context
from ..datasets.find import find_rows
from ..datasets.read import Reader
from ..datasets.rows import Listing, Row
from ..diffuser.layer_names import name_layers
from ..embedded import MODEL
from ..finite import check_samples
from ..memory import is_out_of_memory
from ..pictures import crop_square, from_pil, name_lack_of_memory, read_picture, to_pil
from ..placement import choose_device
from ..ranking import similarity
from ..sampling.checks import check_choice, check_number, check_size
from ..sampling.noise import SampleNoise, make_generator
from ..sampling.options import Sampling

PARTS = {  # of the model, by task
    "caption": ("clip_vision", "diffuser.data.text", "diffuser.context.image", "text_vae"),
    "variation": ("clip_vision", "diffuser.data.image", "diffuser.context.image", "image_vae"),
    "text-to-image": ("clip_text", "diffuser.data.image", "diffuser.context.text", "image_vae"),
    "embed": ("clip_vision",),
    "embed-text": ("clip_text",),
}


@dataclass(frozen=True)
class Settings:
    """What decides the results of a job beside its rows.

    models:     files that together hold the model.
    count:      results per row.
    size:       side of the pictures that are made, in pixels; None = what suits the model.
    background: the colour under transparent pictures.
    sampling:   how latents are sampled.

    Raises ValueError for numbers out of range.
    """

    task: str
    models: tuple[str, ...] = (str(MODEL),)
    count: int = 1
    seed: int = 0
    size: int | None = None
    background: str = "white"
    sampling: Sampling = Sampling("dpmpp_2m", 20)

    def __post_init__(self) -> None:
        check_choice("task", self.task, TASKS)
        check_number("count", self.count, 1, 1000)
        check_number("seed", self.seed, 0, 2**63 - 1)
        if self.size is not None:
            check_size("size", self.size)
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            colors = 'such as white or "#ff8000"'
            raise ValueError(f"background must be a colour {colors}, got {self.background!r}.") from None

    def find_rows(self, source: Path, recursive: bool) -> Listing:
        """Keep what the task reads of an input. Raises ValueError for no rows, and like `find_rows`."""
        return select_rows(find_rows(source, recursive), TASKS[self.task], source)

    def make_runner(self, device: str | None = None) -> Runner:
        """Load the model and make what runs the task on rows. device: None = a GPU where there is one."""
        return Runner(self, device)


Result = dict[str, object]  # id, error ("" where there is none), and what the task gives


class Runner:
    """Runs one task with one model on batches of rows.

    A result depends, up to rounding, on its row and the settings alone.
    """

    def __init__(self, settings: Settings, device: str | None = None):
        self.settings = settings
        self.device = choose_device(device)
        parts = list(PARTS[settings.task])
        if settings.task == "caption" and has_text_tower(settings.models):
            parts.append("clip_text")
        self.model = load(list(settings.models), parts=parts, device=self.device)
        self.size = recommend_settings(self.model.config)[0] if settings.size is None else settings.size
        self.reader = Reader()
        self.can_score = "clip_text" in parts and self.can_embed_texts()

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Row]) -> list[Result]:
        """Run rows: a result for each, in their order; what goes wrong with a row is its `error`."""
        found = [self.read(row) for row in rows]
        readable = [
            (row, value) for row, value in zip(rows, found, strict=True) if not isinstance(value, ValueError)
        ]
        made = iter(run_rows(self.run, readable, [row.id for row, _ in readable]))
        return [
            {"id": row.id, "error": str(value)} if isinstance(value, ValueError) else next(made)
            for row, value in zip(rows, found, strict=True)
        ]

    def can_embed_texts(self) -> bool:
        """Tell whether CLIP's vocabulary is there: small models have one of their own, which a file may
        lack."""
        try:
            self.model.clip.embed_text("a")
        except ValueError:
            return False
        return True

    def read(self, row: Row) -> Tensor | str | ValueError:
        """Return the text of a row, or its picture as CLIP takes it, [1, 3, S, S], or why it cannot be read.

        So a batch of large pictures takes the memory of one.
        """
        if TASKS[self.settings.task] == "text":
            return row.text or ""
        try:
            picture = read_picture(self.reader.read(row), row.id, self.settings.background)
            with name_lack_of_memory(row.id):
                return from_pil(crop_square(picture, self.model.config.clip.image_size))
        except ValueError as error:
            return error

    def run(self, rows: Sequence[tuple[Row, Tensor | str]]) -> list[Result]:
        """Run rows that could be read."""
        made = getattr(self, self.settings.task.replace("-", "_"))(rows)
        return [{"id": row.id, "error": "", **result} for (row, _), result in zip(rows, made, strict=True)]

    def caption(self, rows) -> list[Result]:
        """Caption pictures: `captions`, a list of texts each.

        Where CLIP reads texts too, also `scores`, the cosine of each with the picture, and `not_sure`: that
        of the first is below what the model's captions should reach (`ClipConfig.doubt_below`).
        """
        black = torch.zeros(1, 3, *[self.model.config.clip.image_size] * 2, device=self.device)
        context = Context("image", self.encode_pictures(rows), self.model.clip.encode_image(black))
        data = self.model.config.diffuser.data["text"]
        generators = self.make_generators(rows, "words")
        latents = self.sample("text", context, (data.channels,), rows)
        count, texts = self.settings.count, self.model.text_vae.decode(latents, generators)
        captions = [texts[i : i + count] for i in range(0, len(texts), count)]
        if not self.can_score:
            return [{"captions": lines} for lines in captions]
        results: list[Result] = []
        for lines, tokens in zip(captions, context.tokens, strict=True):
            scores = similarity(tokens[:1], self.model.clip.embed_text(lines))[0].tolist()
            doubt = scores[0] < self.model.config.clip.doubt_below
            results.append({"captions": lines, "scores": scores, "not_sure": doubt})
        return results

    def variation(self, rows) -> list[Result]:
        """Vary pictures: `pictures`, PNG files."""
        return self.draw(Context("image", self.encode_pictures(rows)), rows)

    def text_to_image(self, rows) -> list[Result]:
        """Draw prompts: `pictures`, PNG files."""
        return self.draw(self.model.encode_text([text for _, text in rows]), rows)

    def embed(self, rows) -> list[Result]:
        """Embed pictures: `embedding`, CLIP's global one, of norm 1."""
        return [{"embedding": vector.tolist()} for vector in self.encode_pictures(rows)[:, 0].float()]

    def embed_text(self, rows) -> list[Result]:
        """Embed texts: `embedding`, CLIP's global one, of norm 1."""
        return [
            {"embedding": vector.tolist()}
            for vector in self.model.clip.embed_text([text for _, text in rows]).float()
        ]

    def encode_pictures(self, rows) -> Tensor:
        """Encode pictures [1, 3, S, S] as image tokens [B, n, d]."""
        pictures = torch.cat([picture for _, picture in rows])
        return self.model.clip.encode_image(pictures.to(self.device))

    def draw(self, context: Context, rows) -> list[Result]:
        """Draw PNG files under a context with a sample per row."""
        data = self.model.config.diffuser.data["image"]
        latents = self.sample("image", context, (data.channels, self.size // 8, self.size // 8), rows)
        files = [encode_png(picture) for picture in to_pil(self.model.image_vae.decode(latents))]
        return [
            {"pictures": files[i : i + self.settings.count]}
            for i in range(0, len(files), self.settings.count)
        ]

    def sample(self, data: str, context: Context, shape: tuple[int, ...], rows) -> Tensor:
        """Sample latents [rows * count, …] under a context of a sample per row. Raises ValueError for NaN."""
        count, settings = self.settings.count, self.settings
        repeated = replace(context, tokens=context.tokens.repeat_interleave(count, dim=0))
        latent = torch.zeros(len(rows) * count, *shape, device=self.device)

        def run() -> Tensor:
            noise = SampleNoise(iter(self.make_generators(rows, "noise")))
            return self.model.sample(data, [repeated], latent, noise, settings.sampling)

        samples = run()
        check_samples(samples, run, name_layers(self.model.diffuser, data), repeated.tokens)
        return samples

    def make_generators(self, rows, purpose: str) -> list[torch.Generator]:
        """Make a generator for each result."""
        return seed_rows(self.settings.seed, purpose, [row.id for row, _ in rows], self.settings.count)


def has_text_tower(models: Sequence[str]) -> bool:
    """Tell whether CLIP's text tower is among the files of a model."""
    return any("clip_text" in checkpoint.keys for checkpoint in open_checkpoints(list(models))[0])


def run_rows(run: Callable[[Sequence], list[Result]], rows: Sequence, ids: Sequence[str]) -> list[Result]:
    """Run rows together, and where that fails, each alone: what fails alone has an `error`.

    Raises ValueError where the memory does not suffice for one row, which is not the row's fault.
    """
    if not rows:
        return []
    try:
        return run(rows)
    except (ValueError, RuntimeError, MemoryError) as error:
        if len(rows) == 1 and is_out_of_memory(error):
            raise ValueError(
                f"There is not enough memory for {ids[0]}, a single row: choose a smaller count or size, or "
                "another device. What was done before is kept."
            ) from error
        if len(rows) == 1:
            return [{"id": ids[0], "error": f"{ids[0]} failed: {error}"}]
    # Here the memory that all of them took is free again.
    return [run_rows(run, [row], [name])[0] for row, name in zip(rows, ids, strict=True)]


def seed_rows(seed: int, purpose: str, ids: Sequence[str], count: int) -> list[torch.Generator]:
    """Make generators for `count` results of each row, seeded by seed, row's id and result's number."""
    names = [f"{seed} {purpose} {number} {name}" for name in ids for number in range(count)]
    return [
        make_generator(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")) for name in names
    ]


def select_rows(listing: Listing, kind: str, source: Path) -> Listing:
    """Keep what a task reads, "picture" or "text", of rows that have it. Raises ValueError for no rows."""
    listing = listing.keep(kind)
    if not listing.rows:
        raise ValueError(f"There is no {kind} in {source}: {listing.summarize() or 'it is empty'}.")
    if kind == "picture":
        return Listing([row._replace(text=None) for row in listing.rows], listing.left_out)
    return Listing([Row(row.id, row.text) for row in listing.rows], listing.left_out)


def encode_png(picture: Image.Image) -> bytes:
    """Return the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def resolve_models(models: Sequence[str | Path]) -> tuple[str, ...]:
    """Return model files by their full paths, the same from every folder; OWNER/NAME of the hub is looked
    for in the local cache. Raises FileNotFoundError.
    """
    models = [find_snapshot(path) if isinstance(path, str) and is_name(path) else path for path in models]
    for path in models:
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no model file {path}.")
    return tuple(str(Path(path).resolve()) for path in models)
