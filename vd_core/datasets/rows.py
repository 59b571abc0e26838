"""Rows of a data set: the text of each, and where its picture lies; and what is no row, with the reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

from ..files import write_whole

# The one table of names, of columns, keys of JSON and endings in shards: the first that is there counts.
TEXT_NAMES = ("caption", "text", "prompt", "txt")
FILE_NAMES = ("file_name", "filename", "file", "path", "image", "picture")
PICTURE_NAMES = ("image", "picture", "jpg", "jpeg", "png", "webp")
LARGEST = 1 << 28  # bytes of one picture, or of one file of texts
LONGEST = 1 << 20  # letters of one text


class Row(NamedTuple):
    """A picture, a text, or both. As a tuple it can be written as JSON and read again by `Row(*entry)`.

    id:     names it in results and messages, the same in every run; what cannot be printed is escaped.
    path:   the file that holds its picture: all of it; or, with a `size`, the bytes from `at` on of what a
            shard unpacks to; or, with a `column`, the row of the number `at` of a table.
    """

    id: str
    text: str | None = None
    path: str | None = None
    at: int = 0
    size: int | None = None
    column: str = ""


class LeftOut(NamedTuple):
    """What is no row: a kind of reason, and its name."""

    kind: str
    name: str


class Listing(NamedTuple):
    """The rows of a data set, in the order of its files, and what was left out."""

    rows: list[Row]
    left_out: list[LeftOut]

    def keep_pictures(self) -> Listing:
        """Leave out the rows without a picture."""
        return self.leave_out("without a picture", [row for row in self.rows if row.path is None])

    def keep_texts(self) -> Listing:
        """Leave out the rows without a text."""
        return self.leave_out("without a text", [row for row in self.rows if row.text is None])

    def leave_out(self, kind: str, rows: list[Row]) -> Listing:
        """Leave out some rows; the lines of a .txt count as one."""
        names = dict.fromkeys(re.sub(r"(?i)(\.txt)#\d+$", r"\1", row.id) for row in rows)
        suffixes = {name: PurePath(name.partition("#")[0]).suffix or "row" for name in names}
        left_out = [LeftOut(f"{suffix} {kind}", name) for name, suffix in suffixes.items()]
        gone = set(map(id, rows))
        return Listing([row for row in self.rows if id(row) not in gone], self.left_out + left_out)

    def summarize(self) -> str:
        """Say what was left out, as in "3 left out: 2 .txt without a picture, 1 hidden"; "" for nothing."""
        kinds = Counter(kind for kind, _ in self.left_out).most_common()
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{len(self.left_out)} left out: {counts}" if counts else ""

    def write_left_out(self, folder: Path) -> None:
        """List what was left out in left_out.jsonl; without any there is no such file."""
        (folder / "left_out.jsonl").unlink(missing_ok=True)
        if self.left_out:
            with write_whole(folder / "left_out.jsonl") as file:
                file.writelines(json.dumps(entry._asdict()).encode() + b"\n" for entry in self.left_out)


def escape(name: str) -> str:
    """Escape what cannot be printed in a foreign name, so that it can be written to any file or terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def find_first(names: Iterable[str], entries: Iterable[str]) -> str | None:
    """Return the entry that has the first of these names, in any case; None where there is none."""
    lower = {entry.strip().lower(): entry for entry in entries}
    return next((lower[name] for name in names if name in lower), None)
