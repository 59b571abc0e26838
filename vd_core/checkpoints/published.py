"""Which published file holds which part, and how a missing one is reported. `download` fetches them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..choices import REPOSITORY
from ..foreign import printable

PROMPT_FREE = "shi-labs/prompt-free-diffusion"


@dataclass(frozen=True)
class Published:
    """A file of a repository on the Hugging Face Hub; `parts` are prefixes of the part names it holds."""

    file: str
    size: str
    repository: str
    folder: str = ""
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        folder = f", folder {self.folder}" if self.folder else ""
        return f"{self.file} ({self.size}, huggingface.co/{self.repository}{folder})"


PUBLISHED = (
    Published(
        "vd-four-flow-v1-0-fp16.pth",  # the file in float32 has the same name without "-fp16"
        "5.1 GB; vd-four-flow-v1-0.pth in float32: 10.3 GB",
        REPOSITORY,
        "pretrained_pth",
        ("diffuser.",),
    ),
    Published("kl-f8.pth", "0.3 GB", REPOSITORY, "pretrained_pth", ("image_vae",)),
    Published("optimus-vae.pth", "1 GB", REPOSITORY, "pretrained_pth", ("text_vae",)),
    Published(
        "model.safetensors", "1.7 GB", "openai/clip-vit-large-patch14", parts=("clip_text", "clip_vision")
    ),
)
# Files of Prompt-Free Diffusion hold no part of Versatile Diffusion.
BESIDE = tuple(
    Published(f"{name}.safetensors", size, PROMPT_FREE, f"pretrained/pfd/{folder}")
    for folder, size, names in (
        ("seecoder", "1.2 GB", ("seecoder-v1-0", "seecoder-pa-v1-0", "seecoder-anime-v1-0")),
        ("diffuser", "1.7 GB", ("Deliberate-v2-0", "Anything-v4")),
    )
    for name in names
)


def list_published(parts: Iterable[str]) -> list[Published]:
    """Return the files that hold the given parts."""
    parts = list(parts)
    return [
        file for file in PUBLISHED if any(part.startswith(prefix) for part in parts for prefix in file.parts)
    ]


def find_model(name: str, folders: Collection[str | Path]) -> Path:
    """Return the file or diffusers folder `name` in one of the folders, searched in order.

    Raises FileNotFoundError that says where it was looked for, and what is published where.
    """
    for folder in folders:
        with suppress(OSError, ValueError):  # of a name that no file can have
            if (Path(folder) / name).exists():
                return Path(folder) / name
    searched = ", ".join(str(Path(folder).absolute()) for folder in folders) or "no folder"
    known = [file for file in (*PUBLISHED, *BESIDE) if file.file == name] or PUBLISHED
    raise FileNotFoundError(
        f"There is no {printable(name)} in {searched}; published are {' and '.join(map(str, known))}."
    )
