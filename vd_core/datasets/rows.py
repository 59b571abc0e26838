"""Rows of a data set, where their pictures lie, and their texts, by one rule; and what is no row, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple

# The one table of names, of columns, keys of JSON and endings in shards: the first that is there counts.
TEXT_NAMES = ("caption", "text", "prompt", "txt")
FILE_NAMES = ("file_name", "filename", "file", "path", "image", "picture")
PICTURE_NAMES = ("image", "picture", "jpg", "jpeg", "png", "webp")
LARGEST = 1 << 28  # bytes of one picture, or of one file of texts
LONGEST = 1 << 20  # letters of one text


class Row(NamedTuple):
    """A picture, a text, or both. As a tuple it can be written as JSON and read again by `Row(*entry)`."""

    id: str  # names it in results and messages, the same in every run; what cannot be printed is escaped
    text: str | None = None
    path: str | None = None  # the file that holds its picture
    at: int | None = None  # where that is a shard or a table: the number of the file or the row in it, from 0


class LeftOut(NamedTuple):
    """What is no row: a kind of reason, and its name."""

    kind: str
    name: str


class Listing(NamedTuple):
    """The rows of a data set, in the order of its files, and what was left out."""

    rows: list[Row]
    left_out: list[LeftOut]

    def keep(self, kind: str) -> Listing:
        """Leave out the rows without a "picture", or without a "text"; the lines of a .txt count as one."""
        field = {"picture": "path", "text": "text"}[kind]
        rows = [row for row in self.rows if getattr(row, field) is not None]
        gone = [row.id for row in self.rows if getattr(row, field) is None]
        names = [re.sub(r"(?i)(\.txt)#\d+$", r"\1", name) for name in gone]
        suffixes = {name: PurePath(name.partition("#")[0]).suffix or "row" for name in names}
        left_out = [LeftOut(f"{suffix} without a {kind}", name) for name, suffix in suffixes.items()]
        return Listing(rows, self.left_out + left_out)

    def summarize(self) -> str:
        """Say what was left out, as in "3 left out: 2 .txt without a picture, 1 hidden"; "" for nothing."""
        kinds = Counter(kind for kind, _ in self.left_out).most_common()
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{len(self.left_out)} left out: {counts}" if counts else ""


def find_first(names: Iterable[str], entries: Iterable[str]) -> str | None:
    """Return the entry that has the first of these names, in any case; None where there is none."""
    lower = {entry.strip().lower(): entry for entry in reversed(list(entries))}
    return next((lower[name] for name in names if name in lower), None)


def decode_text(content: bytes, name: str = "its text") -> str:
    """Decode UTF-8 with or without BOM, or UTF-16 with BOM. Raises ValueError naming the first other line."""
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        if text.count("\0") * 4 <= len(text):
            return text
        line = 1  # it is UTF-16 or UTF-32 without BOM
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    raise ValueError(f"{name}, line {line}: this is no text in UTF-8; save the file as UTF-8.")


def read_text(path: Path) -> str:
    """Read and decode a file. Raises ValueError for one that is too large or in another encoding."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} takes more than {LARGEST >> 20} MB: split it.")
    return decode_text(path.read_bytes(), str(path))


def find_text(entry: object) -> str | None:
    """Return the text of an entry, itself or by its first known key; None without. Raises ValueError."""
    if isinstance(entry, dict):
        entry = entry.get(find_first(TEXT_NAMES, entry))
    entry = "" if entry is None else entry
    if not isinstance(entry, str) or len(entry) > LONGEST or "\0" in entry:
        raise ValueError(f"it holds no text, or one with a NUL or of more than {LONGEST:,} letters")
    entry.encode()  # raises UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return entry.strip() or None


def add_text(row: Row, source: Any, read: Callable[[Any], object]) -> Iterator[Row | LeftOut]:
    """Yield a row with the text that `read` finds in its source; where it fails, the reason and the row."""
    try:
        row = row._replace(text=find_text(read(source)))
    except (ValueError, RecursionError) as error:
        yield LeftOut("text not readable", f"{row.id}: {error}")
    yield row
