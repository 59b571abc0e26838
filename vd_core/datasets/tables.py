"""Parquet files, read by pyarrow: pictures as bytes, or as structs with bytes, and texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .rows import PICTURE_NAMES, TEXT_NAMES, LeftOut, Row, first_named, reason_of
from .texts import text_of


def open_table(path: Path):
    """Open a parquet file. Raises ValueError with what to install, or for a file that is none."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"Reading {path} needs pyarrow: pip install pyarrow.") from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise ValueError(f"{path} is no parquet file: {reason_of(error)}.") from error


def list_table(path: Path, name: str) -> Iterator[Row | LeftOut]:
    """Yield the rows of a parquet file, whose ids are `name`#NUMBER. Raises ValueError for a damaged file."""
    with open_table(path) as table:
        columns = table.schema_arrow.names
        picture, text = first_named(PICTURE_NAMES, columns), first_named(TEXT_NAMES, columns)
        if picture is None and text is None:
            yield LeftOut(f"without a column {', '.join((*PICTURE_NAMES, *TEXT_NAMES))}", name)
            return
        place, number = picture and str(path), 0
        if text is None:
            yield from (Row(f"{name}#{n}", None, place, n, picture) for n in range(table.metadata.num_rows))
            return
        try:
            for batch in table.iter_batches(columns=[text], batch_size=1024):
                for words in batch.column(0).to_pylist():
                    try:
                        words = text_of(words)
                    except ValueError:
                        words = None
                        yield LeftOut("text not readable", f"{name}#{number}")
                    yield Row(f"{name}#{number}", words, place, number, picture or "")
                    number += 1
        except Exception as error:  # as above
            raise ValueError(f"{path} is damaged at row {number}: {reason_of(error)}.") from error
