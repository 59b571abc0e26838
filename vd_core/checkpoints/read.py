"""Open weights of any kind: one file, a diffusers folder, or a folder with one model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from .formats import WeightsFile, existing, read_file

DIFFUSERS_FOLDERS = ("image_unet", "text_unet", "vae", "text_encoder", "image_encoder")
WEIGHT_NAMES = tuple(
    f"{stem}{variant}{ending}"
    for ending, stems in (
        (".safetensors", ("diffusion_pytorch_model", "model")),
        (".bin", ("diffusion_pytorch_model", "pytorch_model")),
    )
    for variant in ("", ".fp16")
    for stem in stems
)


class Joined(Mapping):
    """Several mappings as one, the keys of each behind "NAME/"."""

    def __init__(self, members: dict[str, Mapping[str, Tensor]]):
        self.members = members

    def __getitem__(self, key: str) -> Tensor:
        name, _, rest = key.partition("/")
        return self.members[name][rest]

    def __iter__(self) -> Iterator[str]:
        return (f"{name}/{key}" for name, member in self.members.items() for key in member)

    def __len__(self) -> int:
        return sum(len(member) for member in self.members.values())


def read(path: str | Path) -> WeightsFile:
    """Open a safetensors file, a file of `torch.save`, a diffusers folder, or a folder with one model's
    weights.

    Raises FileNotFoundError for a missing path, ValueError for everything that holds no weights or must not
    be opened.
    """
    path = existing(path)
    return read_folder(path) if path.is_dir() else read_file(path)


def read_folder(path: Path) -> WeightsFile:
    """A diffusers folder (one subfolder per part), or a folder with the weights of one model."""
    own = weights_in(path)
    if own is not None:
        return WeightsFile(path, read_file(existing(own)).weights)
    found = {name: weights_in(path / name) for name in DIFFUSERS_FOLDERS}
    members = {name: read_file(existing(file)).weights for name, file in found.items() if file is not None}
    if not members:
        raise ValueError(
            f"{path} is not a diffusers folder: none of its subfolders {', '.join(DIFFUSERS_FOLDERS)} "
            "holds a weights file "
            f"such as {WEIGHT_NAMES[0]}."
        )
    return WeightsFile(path, Joined(members))


def weights_in(folder: Path) -> Path | None:
    """The weights file of a folder in the naming of Hugging Face, if it has one."""
    return next((folder / name for name in WEIGHT_NAMES if (folder / name).is_file()), None)
