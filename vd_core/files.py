"""Write files.

Where anything may be written, under which name, and that it appears there complete or not at all.

A file is written under a temporary name beside its own and renamed at the end. Its writer holds it locked, so
whoever writes into that folder next can tell the temporary files of killed processes from those in use, and
removes them.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

LONGEST = 200  # bytes of a name: file systems take 255, and a number and an ending follow
DAY = 24 * 60 * 60  # seconds
# What Windows takes for a device, with any ending and in any folder.
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³])\s*([.:]|$)", re.IGNORECASE)
NO_FILES = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
# a file system without hard links
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


# Where


def leads_out(name: str) -> bool:
    """Tell whether a relative name could mean a place outside its folder, or a device, on any system.

    Links are not looked at.
    """
    parts = re.split(r"[/\\]", name)
    absolute = parts[0] == "" and len(parts) > 1 or bool(re.match("[A-Za-z]:", name))
    return absolute or ".." in parts or any(DEVICE.match(part) for part in parts)


def resolve_inside(root: Path, name: str, what: str) -> tuple[Path, str]:
    """Return the folder below `root`, links resolved, and the last part of a name.

    The one rule for names that others choose.

    what: how the message calls the name. Raises ValueError for a name that leaves the folder, through a link
    too, and for one that no file can have.
    """
    shown = repr(name if len(name) <= 60 else f"{name[:60]}…")
    if leads_out(name):
        raise ValueError(
            f"{what} {shown} leaves the output folder; use a plain name, with sub-folders at most."
        )
    try:
        sizes = [len(part.encode()) for part in re.split(r"[/\\]", name)]
    except UnicodeEncodeError:  # half of a character
        sizes = []
    if not sizes or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ValueError(
            f"{what} {shown} holds characters that no file name should have; use letters, digits and - or _."
        )
    if max(sizes) > LONGEST:
        raise ValueError(
            f"{what} {shown} is too long for the name of a file; use less than {LONGEST} letters."
        )
    root, (subfolder, _, last) = root.resolve(), name.replace("\\", "/").rpartition("/")
    try:
        folder = (root / subfolder).resolve()
    except (OSError, RuntimeError) as error:  # links that go round in a circle
        raise ValueError(f"{what} {shown} cannot be followed through its links: use a plain name.") from error
    if not folder.is_relative_to(root):
        raise ValueError(f"{what} {shown} leaves the output folder through a link.")
    return folder, last


def shorten_name(name: str) -> str:
    """Cut a name to what a file system takes, in bytes and between characters."""
    return name.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")


def check_name(path: Path) -> None:
    """Raise OSError for a path that no file can have: with half of a character, or a NUL, in it."""
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise OSError(f"{str(path)!r} is no name that a file can have: choose another one.")


def make_folder(folder: Path) -> None:
    """Make a folder unless it exists. Raises OSError with one sentence."""
    check_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error


def check_writable(folder: Path, option: str) -> None:
    """Raise OSError unless files can be written below a folder, which need not exist yet.

    `option` is where the user named it.

    Called before long work: nothing is made, so nothing is left if the work fails.
    """
    check_name(folder)
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"Nothing can be written into {folder}: {reason}; choose another folder with {option}."
        ) from error


# How


@contextmanager
def write_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes the place of `path` at the end, or vanishes if anything fails.

    Raises FileNotFoundError for a missing folder, OSError with one sentence where it cannot be written, as on
    a full disk, and for what is never replaced: links, folders, devices, pipes, sockets, and files that are
    read-only.
    """
    path = Path(path)
    with explain(path):
        mode = check_target(path)
        with temporary_file(path.parent, mode) as file:
            yield file
            complete(file)
            os.replace(file.name, path)


def move_whole(source: Path, path: Path) -> None:
    """Give a complete file its place on the same disk. Raises what `write_whole` raises."""
    with explain(path):
        check_target(path)
        os.replace(source, path)


def save_numbered(folder: Path, stem: str, ending: str, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file and name it STEM_NUMBERENDING, one above the highest number there -> its path.

    Makes the folder.

    No name is given twice, whoever writes into the folder at the same time. Raises OSError with one sentence.
    """
    make_folder(folder)
    pattern = re.compile(re.escape(stem) + "_([0-9]+)" + re.escape(ending))
    with explain(folder / f"{stem}{ending}"), temporary_file(folder) as file:
        write(file)
        complete(file)
        taken = [int(match[1]) for name in os.listdir(folder) if (match := pattern.fullmatch(name))]
        number = max(taken, default=0) + 1
        while True:
            path = folder / f"{stem}_{number:05d}{ending}"
            try:
                claim(file.name, path)
            except FileExistsError:  # another process was faster
                number += 1
            else:
                return path


def open_to_append(path: Path) -> TextIO:
    """Open a log in UTF-8, line by line. Raises OSError for what is no file that may be written."""
    with explain(path):
        check_target(path)
        return path.open("a", encoding="utf-8", buffering=1)


def check_target(path: Path) -> int:
    """Return the permissions for a file to be written as `path`: those of the file it replaces.

    Raises OSError if it must not be.
    """
    check_name(path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into.") from None
        return 0o666
    kind = next((name for test, name in NO_FILES if test(mode)), None)
    if kind:
        raise OSError(f"{path} is {kind}, which is never replaced: choose the name of a file.")
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is read-only: make it writable, or choose another name.")
    return stat.S_IMODE(mode)


@contextmanager
def explain(path: Path) -> Iterator[None]:
    """Turn the system's errors about a file into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(
            f"{path} cannot be written: {error.strerror}; make room there, or choose another folder."
        ) from error


@contextmanager
def temporary_file(folder: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a new, locked file of a name that nobody can guess.

    At the end it is gone, unless it was renamed.
    """
    remove_abandoned(folder)
    while True:
        path = folder / f".vd_{secrets.token_hex(8)}.part"
        file = open(  # noqa: SIM115
            path, "xb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), mode)
        )
        if fcntl:
            # some file systems have no locks: then nobody takes it for abandoned either
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink or not fcntl:  # else somebody removed it before it was locked
            break
        file.close()
    try:
        yield file
    finally:
        with suppress(OSError):  # what cannot be written out is an error of its own, raised before
            file.close()
        with suppress(OSError):
            path.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    for path in folder.glob(".vd_*.part"):
        with suppress(OSError):  # in use, or not ours to remove
            if fcntl:
                lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(lock)
            elif time.time() - path.stat().st_mtime > DAY:
                path.unlink()


def complete(file: BinaryIO) -> None:
    """Bring everything that was written to the disk."""
    file.flush()
    os.fsync(file.fileno())
    if os.name == "nt":  # there an open file cannot be renamed
        file.close()


def claim(temporary: str, path: Path) -> None:
    """Give a complete file its name. Raises FileExistsError if the name is taken."""
    if os.name == "nt":
        os.rename(temporary, path)
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # an empty file holds the name for a moment
        os.replace(temporary, path)
