"""Texts of a data set: one rule for encodings; lists in .txt, .jsonl, .csv and .tsv files; parquet tables."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..foreign import quote_error
from .rows import FILE_NAMES, LARGEST, LONGEST, TEXT_NAMES, find_first

LISTS = (".txt", ".jsonl", ".csv", ".tsv")


def decode_text(content: bytes, name: str) -> str:
    """Decode UTF-8 with or without BOM, or UTF-16 with its BOM.

    Raises ValueError naming the file and the first line that is in no such encoding.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: this is no text in UTF-8; save the file as UTF-8.") from error


def read_text_file(path: Path) -> str:
    """Read and decode a file. Raises ValueError for one that is too large or in another encoding."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} takes more than {LARGEST >> 20} MB: split it.")
    return decode_text(path.read_bytes(), str(path))


def find_text(entry: object) -> str | None:
    """Return the text of an entry, itself or that of its first known key; None without one.

    Raises ValueError for what is neither a text nor a dictionary, for texts that are too long or no Unicode.
    """
    if isinstance(entry, dict):
        entry = entry.get(find_first(TEXT_NAMES, entry))
    if entry is None:
        return None
    if not isinstance(entry, str) or len(entry) > LONGEST:
        raise ValueError(f"it holds no text, or one of more than {LONGEST:,} letters")
    entry.encode()  # raises UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return entry.strip() or None


def read_list(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line from 0, entry) of a list, {} for one that cannot be read. In a .txt file a line is a text.

    Only line feeds end lines. Raises ValueError naming the file for one that is no list at all.
    """
    text, ending = read_text_file(path), path.suffix.lower()
    if ending in (".csv", ".tsv"):
        head = text.partition("\n")[0]
        separator = "\t" if ending == ".tsv" else max(",;\t", key=head.count)  # spreadsheets differ
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="", strict=True)
        try:
            if not find_first((*FILE_NAMES, *TEXT_NAMES), reader.fieldnames or ()):
                columns = ", ".join((*FILE_NAMES, *TEXT_NAMES))
                raise ValueError(f"The first line of {path} names none of the columns {columns}.")
            yield from ((reader.line_num - 1, entry) for entry in reader)
        except csv.Error as error:
            raise ValueError(f"{path} is no table behind its line {reader.line_num}: {error}.") from error
        return
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            try:
                entry = {"text": line} if ending == ".txt" else json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            yield number, entry if isinstance(entry, dict) else {}


def open_table(path: Path) -> Any:
    """Open a parquet file. Raises ValueError with what to install, or for a file that is none."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"Reading {path} needs pyarrow: pip install pyarrow.") from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise ValueError(f"{path} is no parquet file: {quote_error(error)}.") from error


def read_table(path: Path, column: str | None) -> Iterator[tuple[int, object]]:
    """Yield (row, text) of a column of a parquet file, None without one. Raises ValueError for damage."""
    number = 0
    try:
        with open_table(path) as table:
            for batch in table.iter_batches(columns=[column], batch_size=1024) if column else ():
                yield from enumerate(batch.column(0).to_pylist(), start=number)
                number += batch.num_rows
            yield from ((row, None) for row in range(number, table.metadata.num_rows))
    except Exception as error:  # as above
        raise ValueError(f"{path} is damaged at row {number}: {quote_error(error)}.") from error
