"""Rows of a data set: the text of each, and where its picture lies; and what is no row, with the reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ..files import write_whole

# The one table of names, for columns, for keys of JSON and for endings in shards: the first that is there
# counts.
TEXT_NAMES = ("caption", "text", "prompt", "txt")
FILE_NAMES = ("file_name", "filename", "file", "path", "image", "picture")
PICTURE_NAMES = ("image", "picture", "jpg", "jpeg", "png", "webp")
LARGEST = 1 << 28  # bytes of one picture, or of one file of texts
LONGEST = 1 << 20  # letters of one text


class Row(NamedTuple):
    """A picture, a text, or both. As a tuple it can be written as JSON and read again by `Row(*entry)`.

    id:     names it in results and messages, the same in every run; what cannot be printed is escaped.
    path:   the file that holds its picture.
    at:     where in it: None = all of it, (offset, size) in what a shard unpacks to, number of a table's row.
    column: of a table.
    """

    id: str
    text: str | None = None
    path: str | None = None
    at: Sequence[int] | int | None = None
    column: str = ""


class LeftOut(NamedTuple):
    """What is no row: a kind of reason, and its name."""

    kind: str
    name: str


class Listing(NamedTuple):
    """The rows of a data set, in the order of its files, and what was left out."""

    rows: list[Row]
    left_out: list[LeftOut]

    def with_pictures(self) -> Listing:
        """Leave out the rows without a picture."""
        return self.keep("picture", [row.path is not None for row in self.rows])

    def with_texts(self) -> Listing:
        """Leave out the rows without a text."""
        return self.keep("text", [row.text is not None for row in self.rows])

    def keep(self, part: str, has_it: Sequence[bool]) -> Listing:
        """Keep the rows that have a part. A list without any is left out as one file, not line by line."""
        lacking = [row.id for row, has in zip(self.rows, has_it, strict=True) if not has]
        names = dict.fromkeys(re.sub(r"(?i)(\.txt)#\d+$", r"\1", name) for name in lacking)
        kinds = [f"{PurePath(name.partition('#')[0]).suffix or 'row'} without a {part}" for name in names]
        rows = [row for row, has in zip(self.rows, has_it, strict=True) if has]
        return Listing(rows, self.left_out + [LeftOut(*pair) for pair in zip(kinds, names, strict=True)])

    def summary(self) -> str:
        """Say what was left out, as in "3 left out: 2 .txt without a picture, 1 hidden"; "" for nothing."""
        kinds = Counter(kind for kind, _ in self.left_out).most_common()
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{len(self.left_out)} left out: {counts}" if counts else ""

    def write_left_out(self, folder: Path) -> None:
        """List what was left out in left_out.jsonl; without any there is no such file."""
        path = folder / "left_out.jsonl"
        path.unlink(missing_ok=True)
        if self.left_out:
            lines = (json.dumps(entry._asdict(), ensure_ascii=False) for entry in self.left_out)
            with write_whole(path) as file:
                file.write("".join(f"{line}\n" for line in lines).encode())


def printable(name: str) -> str:
    """Escape what cannot be printed in a foreign name, so that it can be written to any file or terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def reason_of(error: Exception) -> str:
    """Return the first line of what a parser says, as a part of a sentence."""
    return printable((str(error).splitlines() or [""])[0][:200].rstrip(" .")) or type(error).__name__


def first_named(names: Iterable[str], entries: Iterable[str]) -> str | None:
    """Return the entry that has the first of these names, in any case; None where there is none."""
    lower = {entry.strip().lower(): entry for entry in entries}
    return next((lower[name] for name in names if name in lower), None)
