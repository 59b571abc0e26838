"""Read the pictures of rows, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..foreign import quote_error
from ..pictures import read_picture
from .rows import LARGEST, Row
from .shards import open_shard
from .texts import open_table


class Reader:
    """Reads the pictures of rows. The last shard or table stays open where it was read last.

    So rows that are read in their order cost one pass over each file, compressed or not, in little memory.
    """

    def __init__(self) -> None:
        self.opened: tuple[str | None, str] = (None, "")  # path and column
        self.file: Any = None
        self.cells: Iterator[Any] = iter(())
        self.next_cell = 0

    def read_picture(self, row: Row, background: str = "white") -> Image.Image:
        """Return the picture of a row, RGB, on a background where it is transparent. Raises like `read`."""
        return read_picture(self.read(row), row.id, background)

    def read(self, row: Row) -> bytes:
        """Return the bytes of a row's picture. Raises ValueError with one sentence that names the row."""
        try:
            size = (
                row.size if row.size is not None else 0 if row.column else Path(str(row.path)).stat().st_size
            )
            content = None if size > LARGEST else self.read_part(row, size)
            if content is None or len(content) > LARGEST:
                raise ValueError(f"it takes more than {LARGEST >> 20} MB")
            if len(content) < size:
                raise ValueError("its file ends before it")
        except Exception as error:  # parsers meet foreign bytes here and can fail in any way
            self.opened = (None, "")  # nobody knows where a file stands after a fault
            reason = error.strerror if isinstance(error, OSError) and error.strerror else quote_error(error)
            raise ValueError(f"{row.id} cannot be read: {reason}.") from error
        return content

    def read_part(self, row: Row, size: int) -> bytes:
        """Return a whole file, a part of what a shard unpacks to, or a cell of a table (no path in it)."""
        path, is_behind = Path(str(row.path)), bool(row.column) and row.at < self.next_cell
        if row.size is None and not row.column:
            return path.read_bytes()
        if self.opened != (row.path, row.column) or is_behind:
            with suppress(Exception):  # none yet, or a damaged one
                self.file.close()
            self.file, self.opened = (
                open_table(path) if row.column else open_shard(path),
                (row.path, row.column),
            )
            self.next_cell = 0
            if row.column:
                batches = self.file.iter_batches(batch_size=16, columns=[row.column])
                self.cells = (cell for batch in batches for cell in batch.column(0))
        if not row.column:
            self.file.seek(row.at)
            return self.file.read(size)
        value: Any = None
        while self.next_cell <= row.at:
            value, self.next_cell = next(self.cells), self.next_cell + 1
        value = value.as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes):
            raise ValueError("its cell holds no bytes of a picture")
        return value


def hash_rows(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a SHA-256 (16 hexadecimal digits) of the content of each row, picture and text, not its name."""
    reader = Reader()
    for row in rows:
        try:
            content = b"" if row.path is None else reader.read(row)
        except ValueError as error:
            content = str(error).encode()
        yield hashlib.sha256(content + b"\0text" + (row.text or "").encode()).hexdigest()[:16]
