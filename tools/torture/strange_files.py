"""What is no file of tensors at all, headers that claim too much, and sizes of models that cannot be."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from safetensors.torch import save_file

from .good_files import Case, Good, State, write


def save_as(state: State, header: dict[str, str], path: Path) -> None:
    """Write a safetensors file."""
    save_file(state, path, header)


def write_claim(tensors: dict, size: int = 0, metadata: dict | None = None) -> bytes:
    """Write a safetensors file with this header and as many zero bytes."""
    text = json.dumps({"__metadata__": metadata or {"format": "pt"}, **tensors}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def write_npy(header: bytes) -> Callable[[Path], object]:
    """Write a .npy file of this header."""
    return write(b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n\x80\x02.")


def write_bomb(path: Path, method: int = zipfile.ZIP_DEFLATED, name: str = "archive/data.pkl") -> None:
    """Write a small zip file with 300 MB in it."""
    with zipfile.ZipFile(path, "w", method) as archive, archive.open(name, "w", force_zip64=True) as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))


def write_sparse(path: Path, head: bytes) -> None:
    """Write a file of 100 GB that takes no room."""
    path.write_bytes(head)
    os.truncate(path, 100 << 30)


def link_in_a_loop(path: Path) -> None:
    """Make two links that point at each other."""
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


HUGE = 100 << 30
SPECIAL: dict[str, Callable[[Path], object]] = {
    "no file": lambda path: None,
    "empty": write(b""),
    "one byte": write(b"\x80"),
    "directory": lambda path: path.mkdir(),
    "directory of directories": lambda path: (path / "vae" / "diffusion_pytorch_model.safetensors").mkdir(
        parents=True
    ),
    "link loop": link_in_a_loop,
    "link to itself": lambda path: path.symlink_to(path),
    "dangling link": lambda path: path.symlink_to(path.with_name("nothing")),
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "no device": lambda path: path.symlink_to("/dev/null"),
    "folder with a link loop": lambda path: (path.mkdir(), link_in_a_loop(path / "model.safetensors")),
    "header of 100 GB": write(HUGE.to_bytes(8, "little") + b"{}"),
    "header of 2^64 - 1": write(b"\xff" * 8 + b"{}"),
    "header of 0": write(bytes(8) + b"{"),
    "tensor of 100 GB": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}}, 64)
    ),
    "shape that overflows": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}}, 64)
    ),
    "negative shape": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}, 64)
    ),
    "unknown type": write(
        write_claim({"clip_text.a": {"dtype": "F3", "shape": [16], "data_offsets": [0, 64]}}, 64)
    ),
    "overlap": write(
        write_claim(
            {f"clip_text.{k}": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for k in "ab"}, 64
        )
    ),
    "hole": write(write_claim({"clip_text.a": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}, 64)),
    "no tensors": write(write_claim({})),
    "header that is a list": write((4).to_bytes(8, "little") + b"[{}]"),
    "header of 10000 brackets": write((20000).to_bytes(8, "little") + b"{" + b"[" * 19999),
    "nested header": write((60006).to_bytes(8, "little") + b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}"),
    "million keys": write(
        write_claim({f"k{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)})
    ),
    "100 GB of zeros": lambda path: write_sparse(path, b""),
    "100 GB behind a header": lambda path: write_sparse(path, write_claim({}, 0)),
    "100 GB behind a pickle": lambda path: write_sparse(path, b"\x80\x02}X\x01\x00\x00\x00a"),
    "100 GB behind a zip": lambda path: write_sparse(path, b"PK\x03\x04" + bytes(100)),
    "zip bomb": write_bomb,
    "zip bomb beside the pickle": lambda path: write_bomb(path, name="archive/data/0"),
    "zip bomb, lzma": lambda path: write_bomb(path, zipfile.ZIP_LZMA),
    "zip without entries": write(b"PK\x05\x06" + bytes(18)),
    "web page": write(b"<!DOCTYPE html><title>Sign in</title>"),
    "text": write(b"A model, really.\n" * 99),
    "picture": write(b"\x89PNG\r\n\x1a\n" + bytes(99)),
    "gguf": write(b"GGUF\x03\x00\x00\x00" + bytes(99)),
    "hdf5": write(b"\x89HDF\r\n\x1a\n" + bytes(99)),
    "npy of objects": write_npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
    "npy of 100 GB": write_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (26843545600,), }"),
    "npy with code": write_npy(b"{'descr': __import__('os').system('true'), 'shape': (1,), }"),
}

SIZES = (10**12, 10**6 + 1, -1, 0, 1.5, "8", None, [], {}, True, float("nan"))


def make_special(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Make what is no file of tensors at all, headers that claim too much, and sizes of models that cannot
    be."""
    for name, make in SPECIAL.items():
        for good in rng.sample(found, 2):
            yield Case(
                "no such file",
                f"{name} as {good.name}",
                good,
                make,
                False,
                ".npy" if name.startswith("npy") else ".safetensors",
            )
    model = found[0]
    for field, value in list(list_leaves(json.loads(model.header["vd_config"]))):
        for size in rng.sample(SIZES, 2):
            if size != value and not (isinstance(value, float) and isinstance(size, float) and size == size):
                config = put(json.loads(model.header["vd_config"]), field, size)
                header = {**model.header, "vd_config": json.dumps(config)}
                yield Case(
                    "sizes that cannot be",
                    f"{'.'.join(map(str, field))} = {size!r}",
                    model,
                    partial(save_as, model.state, header),
                    True,
                )
    for text in ("", "null", "[]", "{}", "{", "1e999", '{"diffuser": 3}', "[" * 100_000):
        yield Case("sizes that cannot be", text[:20], model, write(write_claim({}, 0, {"vd_config": text})))


def list_leaves(values: object, path: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """List every value of nested dictionaries and lists, with where it is."""
    rows = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    yield from ((path, values),) if not rows and path else ()
    for key, value in rows:
        yield from list_leaves(value, (*path, key))


def put(values: dict, path: tuple, value: object) -> dict:
    """Return the same nested values with another one at a place."""
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return values
