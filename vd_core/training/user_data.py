"""Anyone's pictures with captions: a folder, webdataset tar shards, or parquet files. Nothing is unpacked to disk."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..pictures import from_pil

log = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
INDEXES = ("metadata.jsonl", "captions.jsonl")
FILE_NAMES = ("file_name", "image", "file")  # entries of an index, and columns of a parquet file
CAPTIONS = ("caption", "text", "prompt")


@dataclass(frozen=True)
class Sample:
    """One picture, as the bytes of its file, and its caption; None if it has none."""

    name: str
    picture: bytes
    caption: str | None

    def open(self, size: int) -> Tensor:
        """The picture as [3, size, size] in 0..1: turned upright, on white, its shorter side resized, the middle cut out.

        Raises ValueError for what is no readable picture.
        """
        try:
            with Image.open(io.BytesIO(self.picture)) as file:
                picture = ImageOps.exif_transpose(file).convert("RGBA")
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
            raise ValueError(f"{self.name} is no readable picture ({error}).") from error
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
        return from_pil([ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)])[0]


def samples(path: Path) -> Iterator[Sample]:
    """All samples of a folder or file, always in the same order.

    - folder: pictures, also in its subfolders, each with a .txt beside it, or named in metadata.jsonl or captions.jsonl ("file_name" and
      "text"); or .tar shards; or .parquet files.
    - .tar: webdataset, the files of one sample share the name up to its first dot (NAME.jpg, NAME.txt or NAME.json).
    - .parquet: columns image (bytes, or a struct with bytes) and caption or text; needs pyarrow.

    Raises FileNotFoundError and ValueError with one sentence.
    """
    return (sample for file in files(path) for sample in READERS.get(file.suffix, from_folder)(file))


def files(path: Path) -> list[Path]:
    """The shards that a path stands for, or the folder itself. Raises FileNotFoundError and ValueError."""
    if not path.exists():
        raise FileNotFoundError(f"There is no {path} to train on.")
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in READERS) or [path]
    if path.suffix not in READERS:
        raise ValueError(f"{path} is no data set: give a folder of pictures with captions, a .tar shard or a .parquet file.")
    return [path]


def fingerprint(path: Path) -> str:
    """A short hash of the names and sizes of what `samples` reads, and of captions in files of their own, to notice changed data."""
    total = hashlib.sha256()
    for file in files(path):
        for entry in sorted(file.rglob("*")) if file.is_dir() else [file]:
            if entry.is_file():
                total.update(f"{entry.relative_to(path.parent)} {entry.stat().st_size}".encode())
                if entry.suffix in (".txt", ".jsonl"):
                    total.update(entry.read_bytes())
    return total.hexdigest()[:16]


def from_folder(folder: Path) -> Iterator[Sample]:
    """Pictures of a folder with captions in text files or in an index."""
    index = {}
    for path in sorted(file for name in INDEXES for file in folder.rglob(name)):
        index |= {path.parent / name: caption for name, caption in read_index(path)}
    for picture in sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES):
        text = picture.with_suffix(".txt")
        caption = text.read_text(encoding="utf-8") if text.exists() else index.get(picture)
        yield Sample(str(picture), picture.read_bytes(), stripped(caption))


def read_index(path: Path) -> Iterator[tuple[str, str | None]]:
    """(file name, caption) of every line of an index."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                yield next(entry[key] for key in FILE_NAMES if key in entry), first(entry)
            except (ValueError, TypeError, StopIteration) as error:
                raise ValueError(f'Line {number} of {path} is not like {{"file_name": "a.png", "text": "a caption"}}.') from error


def from_tar(path: Path) -> Iterator[Sample]:
    """The samples of a webdataset shard, which lie one after the other."""
    try:
        with tarfile.open(path) as archive:
            parts: dict[str, bytes] = {}
            current = ""
            for member in archive:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    key, _, ending = name.partition(".")
                    if (stem := f"{folder}/{key}") != current:
                        yield from from_parts(f"{path}:{current}", parts)
                        parts, current = {}, stem
                    parts[f".{ending.lower()}"] = archive.extractfile(member).read()
            yield from from_parts(f"{path}:{current}", parts)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no readable tar file ({error}).") from error


def from_parts(name: str, parts: dict[str, bytes]) -> Iterator[Sample]:
    """The sample of some files by their endings; none without a picture."""
    for ending in PICTURES:
        if ending in parts:
            caption = parts.get(".txt", parts.get(".caption", b"")).decode() or None
            if caption is None and ".json" in parts:
                caption = first(json.loads(parts[".json"]))
            yield Sample(name, parts[ending], stripped(caption))
            return


def from_parquet(path: Path) -> Iterator[Sample]:
    """The rows of a parquet file."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"Reading {path} needs pyarrow: pip install pyarrow.") from error
    number = 0
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=64):
        for row in batch.to_pylist():
            picture = next((row[key] for key in FILE_NAMES if row.get(key) is not None), None)
            picture = picture.get("bytes") if isinstance(picture, dict) else picture
            if not isinstance(picture, bytes):
                raise ValueError(f"Row {number} of {path} has no bytes of a picture in its column image; its columns are {', '.join(row)}.")
            yield Sample(f"{path}:{number}", picture, stripped(first(row)))
            number += 1


READERS = {".tar": from_tar, ".parquet": from_parquet}


def first(entry: dict) -> str | None:
    """The caption among the entries of a sample."""
    return next((entry[key] for key in CAPTIONS if isinstance(entry.get(key), str)), None)


def stripped(caption: str | None) -> str | None:
    """A caption without blanks around it; an empty one is none."""
    return (caption or "").strip() or None


def readable(samples: Iterable[Sample], size: int, caption: str | None = None) -> Iterator[tuple[Tensor, str]]:
    """(picture [3, size, size] in 0..1, caption) of every sample; unreadable pictures are left out with a warning.

    caption: for pictures without one. Raises ValueError for a picture without a caption when there is none for all.
    """
    for sample in samples:
        text = sample.caption or caption
        if text is None:
            raise ValueError(f"{sample.name} has no caption: write one beside it as .txt, or give --caption for all that have none.")
        try:
            picture = sample.open(size)
        except ValueError as error:
            log.warning("left out: %s", error)
            continue
        yield picture, text


def chunked(pairs: Iterable[tuple[Tensor, str]], size: int) -> Iterator[tuple[Tensor, list[str]]]:
    """Pairs in batches: pictures [B, 3, S, S] and B captions."""
    pictures, captions = [], []
    for picture, caption in pairs:
        pictures.append(picture)
        captions.append(caption)
        if len(pictures) == size:
            yield torch.stack(pictures), captions
            pictures, captions = [], []
    if pictures:
        yield torch.stack(pictures), captions
