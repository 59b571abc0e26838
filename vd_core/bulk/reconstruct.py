"""Pictures from predicted CLIP tokens, as brain decoding draws them: several samples per row, the best of
them kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.contexts import map_array
from ..checkpoints.load import choose, load, open_checkpoints
from ..config import recommend_settings, token_shape
from ..context import Context, check_norm
from ..datasets.rows import Listing, Row
from ..diffuser.layer_names import name_layers
from ..embedded import MODEL
from ..finite import check_samples
from ..pictures import crop_square, from_pil, list_endings, read_picture, to_pil
from ..placement import choose_device
from ..ranking import best_first, token_similarity
from ..sampling.checks import check_number, check_size
from ..sampling.noise import SampleNoise
from ..sampling.options import Sampling
from .tasks import Result, encode_png, run_rows, seed_rows


@dataclass(frozen=True)
class Reconstruction:
    """What decides the pictures of a job. The defaults are those of MindEye.

    image_tokens: .npy file [rows, n, d] with the tokens of pictures, as CLIP's vision tower gives them.
    texts:        .npy file [rows, n, d] with the tokens of captions; "" for none.
    guesses:      folder with a picture per row to start from, in the order of their names, x9 before x10; ""
                  for none.
    ratio:        0..1, the share of the texts.
    normalise:    divide each row's picture tokens by the norm of the first, as CLIP contexts are.
    count, best:  samples per row, and how many are kept: those whose own tokens are the most like the
                  predicted ones.
    size:         side of the pictures in pixels; None = what suits the model.
    sampling:     how latents are sampled; its strength counts where there are guesses.

    Raises ValueError for numbers out of range.
    """

    image_tokens: str
    texts: str = ""
    guesses: str = ""
    models: tuple[str, ...] = (str(MODEL),)
    ratio: float = 0.5
    normalise: bool = False
    count: int = 16
    best: int = 1
    seed: int = 0
    size: int | None = None
    dtype: str = "float32"
    sampling: Sampling = Sampling("unipc", 20, cfg=3.5, strength=0.85, spacing="linspace")
    task: str = "reconstruct"

    def __post_init__(self) -> None:
        check_number("ratio", self.ratio, 0, 1)
        check_number("count", self.count, 1, 1000)
        check_number("best", self.best, 1, self.count)
        check_number("seed", self.seed, 0, 2**63 - 1)
        if self.size is not None:
            check_size("size", self.size)

    @property
    def parts(self) -> list[str]:
        """The parts of the model that are needed."""
        parts = ["diffuser.data.image", "diffuser.context.image", "image_vae"]
        parts += ["diffuser.context.text", "clip_text"] if self.texts else []
        return parts + (["clip_vision"] if self.best < self.count else [])

    def find_rows(self, source: Path, recursive: bool) -> Listing:
        """List the rows of the token file, each with a fingerprint of all that it is drawn from as its text.

        Raises ValueError for files that are no tokens, another number of texts or guesses than of pictures,
        tokens of other shapes than the model reads, and those that were never normalised in any row.
        """
        images = open_tokens(Path(self.image_tokens))
        arrays = {self.image_tokens: images}
        if self.texts:
            arrays[self.texts] = open_tokens(Path(self.texts))
        guesses = list_guesses(Path(self.guesses)) if self.guesses else []
        rows = len(images)
        for path, held in ((self.texts, len(arrays.get(self.texts, ()))), (self.guesses, len(guesses))):
            if path and held != rows:
                raise ValueError(
                    f"{path} has {held} rows where {self.image_tokens} has {rows}: one for each is needed."
                )
        self.check_tokens(images, arrays.get(self.texts))
        found = []
        for number in range(rows):
            content = b"".join(np.ascontiguousarray(array[number]).tobytes() for array in arrays.values())
            content += guesses[number].read_bytes() if guesses else b""
            found.append(Row(name_row(number), hashlib.sha256(content).hexdigest()[:16]))
        return Listing(found, [])

    def check_tokens(self, images: np.ndarray, texts: np.ndarray | None) -> None:
        """Refuse what would make every row fail: tokens that do not fit the model, or were never normalised.

        Reads the headers of the model's files. Raises ValueError, for a model that lacks a part too.
        """
        checkpoints, config = open_checkpoints(list(self.models))
        choose(checkpoints, config, self.parts)
        tokens = (
            ("image", self.image_tokens, images, self.normalise), ("text", self.texts, texts, False),
        )  # fmt: skip
        for kind, path, array, normalised in tokens:
            if array is None:
                continue
            held, wanted = list(array.shape[1:]), list(token_shape(config, kind))
            if held != wanted:
                raise ValueError(
                    f"The {kind} tokens of a row in {path} are {held}, and this model reads {wanted}: give "
                    "with --model the one that they were predicted for."
                )
            if not normalised:
                norms = [float(np.linalg.norm(row.astype(np.float32), axis=-1).mean()) for row in array]
                least = min((norm for norm in norms if not isnan(norm)), default=0.0)
                check_norm(f"{kind} tokens of each of the {len(array)} rows in {path}", kind, least)

    def make_runner(self, device: str | None = None) -> Reconstructor:
        """Load the model and open the files. device: None = a GPU where there is one."""
        return Reconstructor(self, device)


def name_row(number: int) -> str:
    """Name a row by its number, as its pictures are."""
    return f"{number:09d}"


def open_tokens(path: Path) -> np.ndarray:
    """Map an array of tokens [rows, n, d] of a .npy file. Raises FileNotFoundError and ValueError with one
    sentence.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    array = map_array(path)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            f"{path} holds {list(array.shape)} {array.dtype} where tokens [rows, tokens, width] are needed."
        )
    return array


def list_guesses(folder: Path) -> list[Path]:
    """List the pictures of a folder by their names, numbers in them by their value; no hidden files, such as
    the `._3.png` that a Mac puts beside 3.png.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    pictures = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in list_endings() and path.is_file() and not path.name.startswith(".")
    ]
    return sorted(pictures, key=lambda path: (split_numbers(path.stem), path.name))


def split_numbers(name: str) -> list[str | int]:
    """Split a name into words and numbers, in turn, so that x9 comes before x10."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


class Reconstructor:
    """Draws rows of predicted tokens with one model. A result depends, up to rounding, on its row and the
    settings.
    """

    def __init__(self, settings: Reconstruction, device: str | None = None):
        self.settings = settings
        self.model = load(
            list(settings.models),
            parts=settings.parts,
            dtype=getattr(torch, settings.dtype),
            device=choose_device(device),
        )
        self.size = recommend_settings(self.model.config)[0] if settings.size is None else settings.size
        self.images = open_tokens(Path(settings.image_tokens))
        self.texts = open_tokens(Path(settings.texts)) if settings.texts else None
        self.guesses = list_guesses(Path(settings.guesses)) if settings.guesses else []
        # The unconditional tokens of texts: those of an empty caption.
        self.text_null = self.model.encode_text("").tokens if settings.texts else None

    @torch.no_grad()
    def __call__(self, rows: Sequence[Row]) -> list[Result]:
        """Draw rows: `pictures`, PNG files, the best first, and their `scores`. A row that fails has an
        `error`.
        """
        return run_rows(self.draw, [int(row.id) for row in rows], [row.id for row in rows])

    def draw(self, numbers: Sequence[int]) -> list[Result]:
        """Draw rows by their numbers."""
        count, model = self.settings.count, self.model
        images = self.read(self.images, numbers)
        if self.settings.normalise:
            images = images / images[:, :1].norm(dim=-1, keepdim=True)
        ratio = 0.0 if self.texts is None else self.settings.ratio
        contexts = [Context("image", images.repeat_interleave(count, dim=0), weight=1 - ratio)]
        if self.texts is not None:
            tokens = self.read(self.texts, numbers).repeat_interleave(count, dim=0)
            contexts.append(Context("text", tokens, self.text_null, weight=ratio))
        pictures = model.image_vae.decode(self.sample(contexts, numbers))
        results = []
        for number, wanted, drawn in zip(numbers, images, pictures.split(count), strict=True):
            result: Result = {"id": name_row(number), "error": ""}
            if self.settings.best < count:
                scores = token_similarity(model.encode_image(drawn).tokens, wanted[None])
                order = best_first(scores, self.settings.best)
                result["scores"] = [round(float(scores[i]), 6) for i in order]
                drawn = drawn[order]
            results.append({**result, "pictures": [encode_png(picture) for picture in to_pil(drawn)]})
        return results

    def sample(self, contexts: list[Context], numbers: Sequence[int]) -> Tensor:
        """Sample latents [rows * count, …]. Raises ValueError where values are not finite."""
        settings, vae = self.settings, self.model.image_vae
        sampling = settings.sampling
        if self.guesses:
            guesses = [read_picture(self.guesses[i].read_bytes(), self.guesses[i].name) for i in numbers]
            pictures = from_pil([crop_square(guess, self.size) for guess in guesses])
            latent = vae.encode(pictures.to(self.model.device)).repeat_interleave(settings.count, dim=0)
        else:
            sampling = replace(sampling, strength=None)
            side, channels = self.size // vae.factor, vae.config.latent_channels
            latent = torch.zeros(len(contexts[0].tokens), channels, side, side, device=self.model.device)
        ids = [name_row(number) for number in numbers]

        def run() -> Tensor:
            noise = SampleNoise(iter(seed_rows(settings.seed, "noise", ids, settings.count)))
            return self.model.sample("image", contexts, latent, noise, sampling)

        samples, layers = run(), name_layers(self.model.diffuser, "image")
        check_samples(samples, run, layers, *(context.tokens for context in contexts))
        return samples

    def read(self, array: np.ndarray, numbers: Sequence[int]) -> Tensor:
        """Read rows of tokens, float32, on the model's device."""
        return torch.from_numpy(array[list(numbers)].astype(np.float32)).to(self.model.device)
