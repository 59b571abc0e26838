"""webdataset shards, plain or compressed, by webdataset's rule of names. Nothing is unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from ..foreign import quote_error
from ..pictures import list_endings
from .rows import LARGEST, LONGEST, TEXT_NAMES, LeftOut, Row, escape, find_first
from .texts import decode_text, find_text

SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# by first bytes
OPENERS: dict[bytes, Callable] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
}
# webdataset's rule: folder and name up to the first dot are the key, the rest is the ending. Names that start
# with a dot have no key.
KEY = re.compile(r"((?:.*/|)[^./]+)\.[^/]*", re.DOTALL)


def open_shard(path: Path) -> IO[bytes]:
    """Open what a shard unpacks to."""
    with path.open("rb") as file:
        opener = OPENERS.get(file.read(2), open)
    return opener(path, "rb")


def list_shard(path: Path, name: str) -> Iterator[Row | LeftOut]:
    """Yield the samples of a shard, neighbours of one key; `name` starts their ids. Links are never followed.

    Raises ValueError naming the shard, and the member before the fault, for what is damaged.
    """
    last, keys = "its start", Counter[str]()
    try:
        with open_shard(path) as file, tarfile.open(fileobj=file, mode="r:") as shard:
            most = path.stat().st_size if isinstance(file, io.BufferedReader) else None
            for key, members in groupby(shard, lambda member: (KEY.fullmatch(member.name) or ["", ""])[1]):
                keys[key] += 1
                files: dict[str, tuple[int, int, bytes]] = {}
                for member in members:
                    last = escape(member.name)
                    if not member.isreg() or member.issparse():
                        continue
                    # to pass over it takes as long as to unpack it
                    if most is None and member.size > LARGEST:
                        raise tarfile.ReadError(f"it takes more than {LARGEST >> 20} MB")
                    if most is not None and member.offset_data + member.size > most:
                        raise tarfile.ReadError("it ends behind the end of the file")
                    if not key:
                        yield LeftOut("hidden or without an ending", f"{name}#{last}")
                        continue
                    ending, text = member.name[len(key) + 1 :].lower(), b""
                    if ending.rpartition(".")[2] in (*TEXT_NAMES, "json") and member.size <= 4 * LONGEST:
                        file.seek(member.offset_data)
                        text = file.read(member.size)
                    files.setdefault(ending, (member.offset_data, member.size, text))
                again = f" ({keys[key]})" if keys[key] > 1 else ""
                yield from read_sample(path, escape(f"{name}#{key}{again}"), files)
                shard.members.clear()  # type: ignore[attr-defined]  # or all headers would stay in memory
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise ValueError(f"{path} is no readable tar file: at {last}, {quote_error(error)}.") from error


def read_sample(path: Path, name: str, files: dict[str, tuple[int, int, bytes]]) -> Iterator[Row | LeftOut]:
    """Yield the row of a sample: its first picture, and its text from a file of texts or from its JSON.

    files: ending -> (offset, size, content of a text).
    """
    place: dict[str, Any] = {}
    for ending, (offset, size, _) in files.items():
        if f".{ending.rpartition('.')[2]}" in list_endings():
            if place or size > LARGEST:
                kind = "further picture of a sample" if place else f"larger than {LARGEST >> 20} MB"
                yield LeftOut(kind, f"{name}.{escape(ending)}")
            else:
                place = {"path": str(path), "at": offset, "size": size}
    kinds, text = {ending.rpartition(".")[2]: ending for ending in reversed(files)}, None
    if found := find_first((*TEXT_NAMES, "json"), kinds):
        _, size, content = files[kinds[found]]
        try:
            words = decode_text(content, name)
            text = find_text(json.loads(words) if found == "json" else words)
            if size > len(content):
                raise ValueError("it is too long")
        except (ValueError, RecursionError):
            yield LeftOut("text not readable", f"{name}.{found}")
    if files:
        yield Row(name, text, **place)
