"""Read the pictures of rows, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..pictures import read_picture
from .rows import LARGEST, Row, reason_of
from .shards import open_shard
from .tables import open_table


class Reader:
    """Reads the pictures of rows. The last shard or table stays open where it was read last.

    So rows that are read in their order cost one pass over each file, compressed or not, in little memory.
    """

    def __init__(self) -> None:
        self.opened: tuple[str | None, str] = (None, "")  # path and column
        self.file, self.cells, self.next_cell = None, iter(()), 0

    def read(self, row: Row) -> bytes:
        """Return the bytes of a row's picture. Raises ValueError with one sentence that names the row."""
        try:
            if row.at is None:
                content = None if Path(row.path).stat().st_size > LARGEST else Path(row.path).read_bytes()
            else:
                content = self.read_cell(row) if isinstance(row.at, int) else self.read_member(row)
            if content is None or len(content) > LARGEST:
                raise ValueError(f"it takes more than {LARGEST >> 20} MB")
        except Exception as error:  # parsers meet foreign bytes here and can fail in any way
            self.opened = (None, "")  # nobody knows where a file stands after a fault
            reason = error.strerror if isinstance(error, OSError) and error.strerror else reason_of(error)
            raise ValueError(f"{row.id} cannot be read: {reason}.") from error
        return content

    def picture(self, row: Row, background: str = "white") -> Image.Image:
        """Return the picture of a row, RGB, on a background where it is transparent. Raises like `read`."""
        return read_picture(self.read(row), row.id, background)

    def read_member(self, row: Row) -> bytes:
        """Return a part of what a shard unpacks to."""
        if self.opened != (row.path, ""):
            self.open(row, open_shard(Path(row.path)))
        self.file.seek(row.at[0])
        content = self.file.read(row.at[1])
        if len(content) < row.at[1]:
            raise ValueError("its shard ends before it")
        return content

    def read_cell(self, row: Row) -> bytes:
        """Return the bytes in a cell of a table. A path in a cell is never followed."""
        if self.opened != (row.path, row.column) or row.at < self.next_cell:
            self.open(row, open_table(Path(row.path)))
            batches = self.file.iter_batches(batch_size=16, columns=[row.column])
            self.cells, self.next_cell = (cell for batch in batches for cell in batch.column(0)), 0
        while self.next_cell <= row.at:
            cell = next(self.cells)
            self.next_cell += 1
        value = cell.as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes):
            raise ValueError("its cell holds no bytes of a picture")
        return value

    def open(self, row: Row, file) -> None:
        """Take over another shard or table."""
        if self.file is not None:
            with suppress(Exception):  # a damaged one
                self.file.close()
        self.opened, self.file = (row.path, row.column), file


def fingerprints(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a SHA-256 (16 hexadecimal digits) of the content of each row, picture and text, not its name."""
    reader = Reader()
    for row in rows:
        try:
            content = b"" if row.path is None else reader.read(row)
        except ValueError as error:
            content = str(error).encode()
        yield hashlib.sha256(content + b"\0text" + (row.text or "").encode()).hexdigest()[:16]
