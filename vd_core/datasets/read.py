"""Rows that share a file, parquet tables and webdataset shards; and the bytes of all pictures."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..foreign import escape, quote_error
from ..pictures import list_endings
from .rows import LARGEST, LONGEST, PICTURE_NAMES, TEXT_NAMES, LeftOut, Row, add_text, decode_text, find_first

# webdataset's rule: folder and name up to the first dot are the key; names that start with a dot have none.
KEY = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)", re.DOTALL)
TEXTS = (*TEXT_NAMES, "json")
# of tarfile, by first bytes: trying them all, as it can, takes forever on zeros, which pass for .xz
MODES = {b"\x1f\x8b\x08": "r:gz", b"BZh": "r:bz2", b"\xfd7z": "r:xz"}


def read_table(path: Path, names: Sequence[str], rows: int) -> Iterator[tuple[list[str], Any]]:
    """Yield, for each row, all columns and the cell of the first of `names`. Raises ValueError for damage."""
    row = 0
    try:
        from pyarrow import parquet

        with parquet.ParquetFile(path) as table:
            columns = table.schema_arrow.names
            wanted = find_first(names, columns)
            for batch in table.iter_batches(batch_size=rows, columns=[wanted] if wanted else []):
                cells = batch.column(0).to_pylist() if wanted else [None] * batch.num_rows
                yield from ((columns, cell) for cell in cells)
                row += batch.num_rows
            if row != table.metadata.num_rows:
                raise ValueError(f"{table.metadata.num_rows} rows were written")
    except ImportError:
        raise ValueError(f"Reading {path} needs pyarrow: pip install pyarrow.") from None
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise ValueError(f"{path} is no whole parquet file: at row {row}, {quote_error(error)}.") from error


def list_table(path: Path, name: str) -> Iterator[Row | LeftOut]:
    """Yield the rows of a parquet file, whose ids are `name`#NUMBER."""
    for number, (columns, text) in enumerate(read_table(path, TEXT_NAMES, 1024)):
        picture = find_first(PICTURE_NAMES, columns)
        if picture is None and find_first(TEXT_NAMES, columns) is None:
            yield LeftOut(f"without a column {', '.join((*PICTURE_NAMES, *TEXT_NAMES))}", name)
            return
        yield from add_text(Row(f"{name}#{number}", None, picture and str(path), number), text, lambda it: it)


class WholeTarInfo(tarfile.TarInfo):
    """A header of a tar file that is an error where it is damaged or missing; to tarfile it is the end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        if header.type in b"xgXLK" and not 0 <= header.size <= LONGEST:  # of pax and GNU, to be read whole
            raise tarfile.ReadError(f"a header claims {header.size:,} bytes of at most {LONGEST:,}")
        return header

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("no whole header follows, nor the end mark of a tar file") from error


def read_shard(path: Path) -> Iterator[tuple[str, bytes, int, Callable[[], bytes]]]:
    """Yield name, text, size and reader (to be used before the next) of each member; links and the like have
    size -1. Raises ValueError for damage; a wrong checksum shows at the end."""
    last = "its start"
    try:
        with path.open("rb") as file:
            head = file.peek(512)
            mode: Any = "r:" if head[257:262] == b"ustar" else MODES.get(head[:3], "r:")
            with tarfile.open(None, mode, file, tarinfo=WholeTarInfo) as shard:
                for member in shard:
                    last = escape(member.name)
                    # tarfile goes back by negative sizes for ever, and unpacks what it passes over
                    if member.size < 0 or mode != "r:" and member.size > LARGEST:
                        raise tarfile.ReadError(f"it claims {member.size:,} bytes of at most {LARGEST:,}")
                    is_plain = member.isreg() and not member.issparse()
                    if is_plain and (content := shard.extractfile(member)):
                        text = content.read(4 * LONGEST + 1) if member.name.lower().endswith(TEXTS) else b""
                        yield member.name, text, member.size, content.read
                    elif not (member.isdir() or member.type in b"DV"):  # GNU's folders and labels
                        yield member.name, b"", -1, bytes
                    shard.members.clear()  # type: ignore[attr-defined] # or all headers stay in memory
                rest = shard.fileobj.read(1 << 24)  # and a checksum behind it
                if rest.strip(b"\0") or len(rest) == 1 << 24:
                    raise tarfile.ReadError("more follows behind the end")
    except Exception as error:  # as above
        raise ValueError(f"{path} is no readable tar file: at {last}, {quote_error(error)}.") from error


def list_shard(path: Path, name: str) -> Iterator[Row | LeftOut]:
    """Yield the samples of a shard, neighbours of one key, with their first pictures; `name` starts ids."""
    left_out, keys = list[LeftOut](), Counter[str]()

    def list_members() -> Iterator[tuple[str, str, int, bytes, int]]:
        for number, (file, text, size, _) in enumerate(read_shard(path)):
            if size >= 0 and (match := KEY.fullmatch(file)):
                yield match[1], match[2].lower(), number, text, size
            else:
                reason = "hidden or without an ending" if size >= 0 else "link, or no plain file"
                left_out.append(LeftOut(reason, f"{name}#{file}"))

    for key, sample in groupby(list_members(), itemgetter(0)):
        keys[key] += 1
        row = Row(f"{name}#{key}" + (f" ({keys[key]})" if keys[key] > 1 else ""))
        texts: dict = {}
        for _, ending, number, text, size in sample:
            kind = ending.rpartition(".")[2]
            if kind in TEXTS:
                texts.setdefault(kind, text)
            elif f".{kind}" in list_endings() and not row.path and size <= LARGEST:
                row = row._replace(path=str(path), at=number)
            elif f".{kind}" in list_endings():
                reason = "further picture of a sample" if row.path else f"larger than {LARGEST >> 20} MB"
                yield LeftOut(reason, f"{row.id}.{ending}")
        first = find_first(TEXTS, texts)
        yield from add_text(row, texts.get(first, b""), json.loads if first == "json" else decode_text)
    yield from left_out


class Reader:
    """Reads the pictures of rows, in their order with one pass over each shard or table, in little memory."""

    def __init__(self) -> None:
        self.path: str | None = None  # of the shard or table that is open
        self.entries: Iterator[Any] = iter(())  # what is left of it
        self.next = 0  # the number of the first of these

    def read(self, row: Row) -> bytes:
        """Return the bytes of a row's picture. Raises ValueError with one sentence that names the row."""
        try:
            size, read = self.find(row)
            if size > LARGEST:
                raise ValueError(f"it takes more than {LARGEST >> 20} MB")
            path, self.path = self.path, None  # nobody knows where a file stands after a fault
            content = read()
            self.path = path
            return content
        except Exception as error:  # parsers meet foreign bytes here and can fail in any way
            fault = error.__cause__ or error  # in a shard or table, without its path
            reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else quote_error(fault)
            raise ValueError(f"{row.id} cannot be read: {reason}.") from error

    def find(self, row: Row) -> tuple[int, Callable[[], bytes]]:
        """Find a file, one in a shard, or a cell of a table (no path in it): its size, and what reads it."""
        path = Path(str(row.path))
        if row.at is None:
            return path.stat().st_size, path.read_bytes
        is_table = path.suffix.lower() == ".parquet"
        if self.path != row.path or row.at < self.next:
            self.entries = read_table(path, PICTURE_NAMES, 16) if is_table else read_shard(path)
            self.next = 0
        self.path = None  # as above
        entry = next(islice(self.entries, row.at - self.next, None), None)
        self.path, self.next = row.path, row.at + 1
        if entry is None:
            raise ValueError("its file ends before it")
        if not is_table:
            return entry[2:]
        content = entry[1].get("bytes") if isinstance(entry[1], dict) else entry[1]
        if not isinstance(content, bytes):
            raise ValueError("its cell holds no bytes of a picture")
        return len(content), io.BytesIO(content).read
