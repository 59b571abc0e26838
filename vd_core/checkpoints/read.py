"""Open a weights file, or a diffusers folder, as a lazy mapping of keys to tensors. Nothing in a file is ever run.

What a file is follows from its first bytes, never from its name. Tensors are memory-mapped where the format allows it, so only
what is used is read.
"""

from __future__ import annotations

import pickle
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .mapped import MappedAnew
from .pickles import LONGEST, check_pickles

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


@dataclass(frozen=True)
class WeightsFile:
    """A file (or folder) of weights: `weights[key]` reads one tensor, on the CPU; keys of a folder start with "SUBFOLDER/"."""

    path: Path
    weights: Mapping[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


class LazySafetensors(Mapping):
    """The tensors of a safetensors file, each read when it is asked for."""

    def __init__(self, path: Path):
        self.file = safe_open(path, framework="pt", device="cpu")
        self.names = dict.fromkeys(self.file.keys())
        self.metadata = self.file.metadata() or {}

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.names:
            raise KeyError(key)
        return self.file.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: object) -> bool:
        return key in self.names


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
    """Open a safetensors file, a file of `torch.save`, a diffusers folder, or a folder with one model's weights.

    Raises FileNotFoundError for a missing path, ValueError for everything that holds no weights or must not be opened.
    """
    path = existing(path)
    if path.is_dir():
        return read_folder(path)
    head = first_bytes(path)
    if head[6:9] == b"\0\0{":  # the length of a JSON header in eight bytes, then the header; the length may look like a pickle's start
        return read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        return WeightsFile(path, read_zip(path))
    if head.startswith(b"\x80"):
        check_protocol(path, head)
        check_legacy(path)
        return WeightsFile(path, read_torch(path, mmap=False))
    raise ValueError(f"{path} is neither a safetensors file nor one of torch.save; it starts with {head[:16]!r}.")


def existing(path: str | Path) -> Path:
    """The path of a file or folder. Raises FileNotFoundError where there is none, ValueError for devices and pipes, which may never end."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:  # links in a circle, names that cannot be
        raise FileNotFoundError(f"There is no file that can be read at {path}: {first_line(error)}.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path} is neither a file nor a folder, but a device or a pipe.")
    return path


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, after refusing what people save by accident instead of a model."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not the model itself; run `git lfs pull` or download the file.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(f"{path} is a web page saved under the name of a model; download the file itself.")
    return head


def corrupt(path: Path, error: Exception) -> ValueError:
    """What to say when a parser fails. torch's own message on pickles advises to run them, so it is not repeated."""
    reason = "its pickle cannot be read" if isinstance(error, pickle.UnpicklingError) else first_line(error)
    return ValueError(f"{path} is truncated or corrupt ({reason}); download it again.")


def first_line(error: Exception) -> str:
    """The first line of what an error says, as a part of a sentence."""
    line = next(iter(str(error).splitlines()), "")[:300].rstrip(" .")
    return line or type(error).__name__


def read_safetensors(path: Path) -> WeightsFile:
    """Open a safetensors file; its header is checked against its size at once."""
    weights = MappedAnew(partial(map_safetensors, path))
    return WeightsFile(path, weights, weights.weights.metadata)


def map_safetensors(path: Path) -> LazySafetensors:
    """Map a safetensors file."""
    try:
        return LazySafetensors(path)
    except (SafetensorError, MemoryError, OSError) as error:
        raise corrupt(path, error) from error


def read_zip(path: Path) -> Mapping[str, Tensor]:
    """Open a file of today's `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch.save never compresses, so a model's entries are no larger than its file.
            if (claimed := sum(entry.file_size for entry in entries)) > (actual := path.stat().st_size):
                raise ValueError(f"it claims to unpack to {claimed} bytes, more than its own {actual}")
            # Read as a whole, so that their checksums are compared.
            pickled = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if any(entry.file_size > LONGEST for entry in pickled):
                raise ValueError(f"its pickle takes more than {LONGEST >> 20} MB")
            pickles = [archive.read(entry) for entry in pickled]
            for pickle_data in pickles:
                check_pickles(pickle_data, 1)
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise corrupt(path, error) from error
    for head in pickles:
        check_protocol(path, head)
    if any(entry.filename.split("/")[1:2] == ["constants.pkl"] for entry in entries):
        raise ValueError(f"{path} is a TorchScript program, not a file of weights; refused.")
    return MappedAnew(partial(read_torch, path, mmap=True))


def check_legacy(path: Path) -> None:
    """Refuse a file from before torch 1.6, five pickles in front of the tensors' numbers, that torch would read without end."""
    with path.open("rb") as file:
        head = file.read(LONGEST)
    try:
        check_pickles(head, 5, cut=len(head) == LONGEST)
    except ValueError as error:
        raise corrupt(path, error) from error


def check_protocol(path: Path, head: bytes) -> None:
    """Refuse pickles that torch's unpickler of tensors does not read; `torch.save` writes protocol 2."""
    if len(head) > 1 and head[1] > 3:
        raise ValueError(
            f"{path} is pickled in protocol {head[1]}, which may hide code; it was refused and not run. Ask for a safetensors file."
        )


def read_torch(path: Path, mmap: bool) -> Mapping[str, Tensor]:
    """A file of `torch.save`, read with the unpickler that knows tensors only. Files from before torch 1.6 cannot be mapped."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # as above
        if code := re.search(r"(?:GLOBAL|global|class|function) [`']?([\w.]+\.\w+)", str(error)):
            raise ValueError(
                f"{path} contains code ({code[1]}), not only tensors; it was refused and not run. Ask for a safetensors file."
            ) from error
        raise corrupt(path, error) from error
    if isinstance(content, Tensor):  # embeddings are published so
        return {"tensor": content}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
    strangers = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strangers or not content:
        found = f"{strangers[0]!r} is a {type(content[strangers[0]]).__name__}" if strangers else "it is empty"
        raise ValueError(f"{path} is not a dictionary of tensors: {found}.")
    return content


def read_folder(path: Path) -> WeightsFile:
    """A diffusers folder (one subfolder per part), or a folder with the weights of one model."""
    own = weights_in(path)
    if own is not None:
        return WeightsFile(path, read(own).weights)
    found = {name: weights_in(path / name) for name in DIFFUSERS_FOLDERS}
    members = {name: read(file).weights for name, file in found.items() if file is not None}
    if not members:
        raise ValueError(
            f"{path} is not a diffusers folder: none of its subfolders {', '.join(DIFFUSERS_FOLDERS)} holds a weights file "
            f"such as {WEIGHT_NAMES[0]}."
        )
    return WeightsFile(path, Joined(members))


def weights_in(folder: Path) -> Path | None:
    """The weights file of a folder in the naming of Hugging Face, if it has one."""
    return next((folder / name for name in WEIGHT_NAMES if (folder / name).is_file()), None)
