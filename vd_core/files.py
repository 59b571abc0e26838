"""Where the results of a workflow go: numbered files below one folder, texts on the terminal and in a file beside the pictures."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)\s*(\.|$)", re.IGNORECASE)
LONGEST = 200  # bytes: file systems take 255, and a number and an ending follow


def make(folder: Path) -> None:
    """Makes a folder if need be. Raises OSError with one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error


def make_ready(folder: Path) -> None:
    """Makes the output folder and tries whether it takes a file: before any work is done is the time to say so. Raises OSError."""
    make(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"Nothing can be written into {folder}: {error.strerror or error}; choose another folder with --output.") from error


def numbered(folder: Path, stem: str, ending: str) -> Path:
    """The next free path folder/stem_00001ending, one above the highest number there is; makes the folder."""
    make(folder)
    pattern = re.compile(re.escape(stem) + r"_(\d+)" + re.escape(ending))
    taken = [int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    return folder / f"{stem}_{max(taken, default=0) + 1:05d}{ending}"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside this one to write to, which takes its place at the end: what is there under its name is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}; make room there, or choose another folder.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def outside(prefix: str) -> bool:
    """Whether a file name prefix would leave the output folder, on any system; Windows has devices in every folder."""
    parts = re.split(r"[/\\]", prefix)
    leaves = "\0" in prefix or ".." in parts or parts[0] == "" and len(parts) > 1
    return leaves or bool(re.match("[A-Za-z]:", prefix)) or any(DEVICE.match(part) for part in parts)


def place(prefix: str, directory: str) -> tuple[Path, str]:
    """The folder below the output folder, and the start of the name, that a prefix stands for. Raises ValueError for one that leaves it,
    through a link too, and for names that no file can have."""
    if outside(prefix):
        raise ValueError(f"filename_prefix {prefix!r} leaves the output folder; use a plain name, with sub-folders at most.")
    if any(len(part.encode("utf-8", "replace")) > LONGEST for part in re.split(r"[/\\]", prefix)):
        raise ValueError(f"filename_prefix {prefix[:40]!r} … is too long for the name of a file; use less than {LONGEST} letters.")
    root = Path(directory).resolve()
    subfolder, _, stem = prefix.replace("\\", "/").rpartition("/")
    folder = (root / subfolder).resolve()
    if not folder.is_relative_to(root):
        raise ValueError(f"filename_prefix {prefix!r} leaves the output folder through a link.")
    return folder, stem
