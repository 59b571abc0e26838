"""What training runs and bulk jobs share: records of what they were made from, and the lock of a folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from .datasets.read import Reader
from .datasets.rows import Row
from .files import make_folder, write_whole

log = logging.getLogger(__name__)


def hash_files(paths: Iterable[str | Path]) -> str:
    """Return a SHA-256 (16 hexadecimal digits) of the contents of files, and of all files in folders."""
    total = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as opened:
                    while block := opened.read(1 << 20):
                        total.update(block)
                total.update(b"end of file")
    return total.hexdigest()[:16]


def hash_rows(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a SHA-256 (16 hexadecimal digits) of the content of each row, picture and text, not its name."""
    reader = Reader()
    for row in rows:
        try:
            content = b"" if row.path is None else reader.read(row)
        except ValueError as error:
            content = str(error).encode()
        yield hashlib.sha256(content + b"\0text" + (row.text or "").encode()).hexdigest()[:16]


def write_left_out(left_out: Sequence[tuple[str, str]], folder: Path) -> None:
    """List what of the inputs was left out, each with its kind of reason and name, in left_out.jsonl; without
    any there is no such file."""
    (folder / "left_out.jsonl").unlink(missing_ok=True)
    if left_out:
        with write_whole(folder / "left_out.jsonl") as file:
            file.writelines(
                json.dumps({"kind": kind, "name": name}).encode() + b"\n" for kind, name in left_out
            )


def find_differences(before: Mapping, now: Mapping, prefix: str = "") -> list[str]:
    """Spell out what differs between two records, such as "settings.steps is 30, there it was 20"."""
    found = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += find_differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name} is {new}, there it was {old}")
    return found


def read_record(path: Path) -> dict:
    """Read a record in JSON. Raises ValueError for a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("accepted", []), list):
        raise ValueError(
            f"{path} is damaged, so nobody knows what {path.parent} was made from: choose another folder."
        )
    return record


def is_recorded(path: Path, record: dict, accept_changes: bool = False) -> bool:
    """Tell whether a folder holds what `record` makes; False where it is empty or a change is accepted.

    path: of the record in that folder. Raises ValueError, with the differences spelled out, where they are
    not accepted, and for a damaged record.
    """
    if not path.exists():
        return False
    changes = find_differences(read_record(path), record)
    if changes and not accept_changes:
        advice = f"Choose another folder, delete {path.parent}, or make it again with --accept-changes"
        raise ValueError(f"{path.parent} was made from other things: {'; '.join(changes)}. {advice}.")
    return not changes


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for one run or job; the system gives it free when the process ends, however it ends.

    Makes the folder. Raises ValueError where another process, or this one, holds it already, and OSError
    where nothing can be written there.
    """
    make_folder(folder)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        advice = "wait until it has ended, or choose another folder"
        raise ValueError(f"{folder} is in use by another run: {advice}.") from None
    except OSError as error:
        raise OSError(
            f"Nothing can be written into {folder}: {error.strerror}; choose another folder."
        ) from error
    except NotImplementedError:
        log.warning("%s lies on a file system without locks: take care that one run alone uses it", folder)
    try:
        yield
    finally:
        lock.release()
