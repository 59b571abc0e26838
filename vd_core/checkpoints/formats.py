"""The file formats of weights: safetensors and `torch.save`, as lazy mappings of keys to tensors.

Nothing in a file is ever run.

What a file is follows from its first bytes, never from its name. Tensors are memory-mapped where the format
allows it, so only what is used is read. Whatever a file claims (sizes of headers, of pickles, of tensors, of
what a zip file unpacks to) is compared with its own size before anything is read, and every tensor is dense
and of a type that weights have.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..foreign import printable, quote_error
from .pickles import LONGEST, Forbidden, check_pickles

LET_GO = 1 << 27  # bytes: how much of a file is mapped at most beside the tensors that are kept
MOST_UNPACKED = 10  # times the size of a compressed file, which weights never reach

DTYPE_NAMES = {  # the types that weights can have, as the safetensors format names them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class WeightsFile:
    """A file (or folder) of weights: `weights[key]` reads one tensor, on the CPU.

    The keys of a folder start with "SUBFOLDER/".
    """

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


class MappedAnew(Mapping):
    """The tensors of a file that is mapped again from time to time, so that what was read and is no longer
    used leaves the memory.

    Raises ValueError at a key for a file that has changed since it was opened: its header would be read with
    other numbers.
    """

    def __init__(self, path: Path, open_file: Callable[[], Mapping[str, Tensor]]):
        self.path, self.open_file, self.state = path, open_file, read_file_state(path)
        self.weights, self.bytes_read = open_file(), 0

    def __getitem__(self, key: str) -> Tensor:
        if read_file_state(self.path) != self.state:
            raise ValueError(f"{self.path} was changed while it was being read; load it again.")
        if self.bytes_read > LET_GO:
            self.weights, self.bytes_read = self.open_file(), 0
        tensor = self.weights[key]
        self.bytes_read += tensor.nbytes
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)

    def __contains__(self, key: object) -> bool:
        return key in self.weights


def read_file_state(path: Path) -> tuple[int, ...]:
    """Read what changes when a file is written or replaced: its size, time and identity. Zeros where it is
    gone: what is mapped stays."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


def read_file(path: Path) -> WeightsFile:
    """Open a safetensors file or a file of `torch.save`.

    Raises ValueError for everything that holds no tensors or must not be opened.
    """
    head = read_first_bytes(path)
    # the length of a JSON header in eight bytes, then the header; it may look like a pickle's start
    if head[6:9] == b"\0\0{":
        return read_safetensors(path, int.from_bytes(head[:8], "little"))
    if head.startswith(b"PK\x03\x04"):
        return WeightsFile(path, read_zip(path))
    if head.startswith(b"\x80"):
        check_protocol(path, head)
        check_legacy(path)
        return WeightsFile(path, read_torch(path, mmap=False))
    raise ValueError(
        f"{path} is neither a safetensors file nor one of torch.save; it starts with {head[:16]!r}. Download "
        "it again, or choose another file."
    )


def resolve_existing(path: str | Path) -> Path:
    """Return the path of a file or folder.

    Raises FileNotFoundError where there is none, ValueError for devices and pipes, which may never end.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:  # links in a circle, names that cannot be
        raise FileNotFoundError(
            f"There is no file that can be read at {path}: {quote_error(error)}."
        ) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path} is neither a file nor a folder, but a device or a pipe.")
    return path


def read_first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, after refusing what people save by accident instead of a model."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a Git LFS pointer, not the model itself; run `git lfs pull` or download the file."
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(f"{path} is a web page saved under the name of a model; download the file itself.")
    return head


def explain_corrupt(path: Path, error: Exception) -> ValueError:
    """Return what to say when a parser fails."""
    return ValueError(f"{path} is truncated or corrupt ({quote_error(error)}); download it again.")


def read_safetensors(path: Path, header: int) -> WeightsFile:
    """Open a safetensors file with a header of so many bytes, which is checked against the file's size at
    once.
    """
    if header > min(LONGEST, path.stat().st_size):
        raise explain_corrupt(path, ValueError(f"its header claims {header} bytes"))
    first = map_safetensors(path)
    for key in first:
        name = first.file.get_slice(key).get_dtype()
        if name not in DTYPE_NAMES.values():
            raise ValueError(
                f"{path} holds a tensor of type {name}, which no weights have: {printable(key)}."
            )
    return WeightsFile(path, MappedAnew(path, partial(map_safetensors, path)), first.metadata)


def map_safetensors(path: Path) -> LazySafetensors:
    """Map a safetensors file."""
    try:
        return LazySafetensors(path)
    except (SafetensorError, MemoryError, OSError) as error:
        raise explain_corrupt(path, error) from error


def read_zip(path: Path) -> Mapping[str, Tensor]:
    """Open a file of today's `torch.save`."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            compressed = any(is_compressed(archive, entry) for entry in entries.values())
            # torch.save never compresses, so a model's entries are no larger than its file.
            claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > (MOST_UNPACKED if compressed else 1) * size:
                raise ValueError(f"it claims to unpack to {claimed} bytes, more than its own {size}")
            if entries and all(name.endswith(".npy") for name in entries):
                raise ValueError("it is an archive of numpy's arrays: save the one that is meant as .npy")
            pickled = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickled) != 1 or len(entries) < len(archive.infolist()):
                raise ValueError(
                    "it does not hold one data.pkl and every file once, as torch.save writes them"
                )
            name = pickled[0]
            if entries[name].file_size > LONGEST:
                raise ValueError(f"its pickle takes more than {LONGEST >> 20} MB")
            data = archive.read(name)  # read as a whole, so that its checksum is compared
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise explain_corrupt(path, error) from error
    if compressed:
        raise ValueError(
            f"{path} is compressed, so its tensors cannot be read from where they lie: open it with "
            "torch.load (weights_only=True), and write that with torch.save, which never compresses."
        )
    root = name.removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise ValueError(f"{path} is a TorchScript program, not a file of weights; refused.")
    check_protocol(path, data)
    for key, claimed in check_file_pickles(path, data, 1, size).items():
        entry = entries.get(f"{root}data/{key}")
        if entry is None or entry.file_size < claimed:
            raise explain_corrupt(
                path, ValueError(f"it claims {claimed} bytes in data/{printable(key)}, which are not there")
            )
    check_places(path, entries.values())
    return MappedAnew(path, partial(read_torch, path, mmap=True))


def is_compressed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Tell whether both the directory of a zip file and the entry's own header say that it is compressed."""
    file = archive.fp
    assert file
    file.seek(entry.header_offset)
    header = file.read(10)
    return bool(entry.compress_type) and int.from_bytes(header[8:10], "little") == entry.compress_type


def check_places(path: Path, entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse a zip file with entries that do not lie where they are said to lie, as they are.

    torch maps an entry from where its own header says that it begins, and compares nothing: one wrong bit
    there, or in the directory, would give other numbers.
    """
    with path.open("rb") as file:
        for entry in entries:
            name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437")
            file.seek(entry.header_offset)
            header = file.read(30 + len(name))
            start = entry.header_offset + len(header) + int.from_bytes(header[28:30], "little")
            file.seek(start + entry.file_size)
            # a copy of the checksum, with or without a mark, or none and the next header
            behind, checksum = file.read(8), entry.CRC.to_bytes(4, "little")
            is_copied = behind[:4] == checksum or behind == b"PK\x07\x08" + checksum
            is_next = behind[:2] == b"PK" and not (entry.flag_bits & 8 and entry.file_size)
            is_there = header[:4] == b"PK\x03\x04" and header[26:28] == len(name).to_bytes(2, "little")
            if not is_there or header[30:] != name or not (is_copied or is_next) or entry.compress_type:
                stray = printable(entry.filename)
                raise explain_corrupt(path, ValueError(f"{stray} does not lie in it as torch.save writes it"))


def check_legacy(path: Path) -> None:
    """Check a file from before torch 1.6: five pickles in front of the tensors' numbers."""
    with path.open("rb") as file:
        head = file.read(LONGEST)
    check_file_pickles(path, head, 5, path.stat().st_size, cut=len(head) == LONGEST)


def check_file_pickles(path: Path, data: bytes, count: int, room: int, cut: bool = False) -> dict[str, int]:
    """Return what `check_pickles` returns, its refusals as whole sentences."""
    try:
        return check_pickles(data, count, room, cut)
    except Forbidden as error:
        raise ValueError(
            f"{path} contains {error}; it was refused and not run. Ask for a safetensors file."
        ) from error
    except ValueError as error:
        raise explain_corrupt(path, error) from error


def check_protocol(path: Path, head: bytes) -> None:
    """Refuse pickles that torch's unpickler of tensors does not read; `torch.save` writes protocol 2."""
    if len(head) > 1 and head[1] > 3:
        raise ValueError(
            f"{path} is pickled in protocol {head[1]}, which may hide code; it was refused and not run. Ask "
            "for a safetensors file."
        )


def read_torch(path: Path, mmap: bool) -> Mapping[str, Tensor]:
    """Read a file of `torch.save` with the unpickler that knows tensors only.

    Files from before torch 1.6 cannot be mapped.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # as above; torch's own words advise to run the file
        raise explain_corrupt(path, ValueError("its tensors cannot be read")) from error
    if isinstance(content, Tensor):  # embeddings are published so
        content = {"tensor": content}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors.")
    strangers = [
        key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if strangers or not content:
        found = (
            f"{printable(repr(strangers[0]))} is a {type(content[strangers[0]]).__name__}"
            if strangers
            else "it is empty"
        )
        raise ValueError(f"{path} is not a dictionary of tensors: {found}.")
    for key, tensor in content.items():
        if tensor.dtype not in DTYPE_NAMES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(
                f"{path} holds a tensor of type {kind}, which no weights have: {printable(key)}."
            )
    return {key: tensor.detach() for key, tensor in content.items()}
