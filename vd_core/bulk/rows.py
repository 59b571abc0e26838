"""What a bulk job works on: pictures and texts of a folder, of parquet files, of webdataset shards, or the lines of a text file."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..checkpoints.formats import existing, first_line

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEXTS = (".txt", ".jsonl")
LARGEST = 1 << 30  # bytes of a picture or of a list of texts
COLUMNS = {"picture": ("image", "picture", "jpg", "png"), "text": ("text", "prompt", "caption", "txt")}


@dataclass(frozen=True)
class Row:
    """Where one picture or text lies; nothing of it has been read.

    id:   names it in the results, the same in every run; letters that UTF-8 has no place for are escaped.
    path: the file that holds it.
    at:   None for a whole file, (offset, size) in bytes inside a shard, a line number, or a row number of a parquet file.
    """

    id: str
    path: Path
    at: tuple[int, int] | int | None = None


def find_rows(source: Path, kind: str) -> list[Row]:
    """All rows of a kind ("picture" or "text") below a folder or in one file, sorted by file.

    Raises FileNotFoundError when there is no such path, ValueError when nothing of the kind is in it, for a shard, a table or a list that
    cannot be read, and for a link that leads out of the folder.
    """
    existing(source)
    endings = (*(PICTURES if kind == "picture" else TEXTS), ".parquet", ".tar")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    files = [path for path in files if path.suffix.lower() in endings]
    root = source if source.is_dir() else source.parent
    if outside := [path for path in files if source.is_dir() and not path.resolve().is_relative_to(root.resolve())]:
        raise ValueError(f"{outside[0]} is a link that leads out of {source}: copy the file there, or give the folder that it is in.")
    rows = [row for path in files for row in rows_of(path, path.relative_to(root).as_posix(), kind)]
    if not rows:
        raise ValueError(f"There is no {kind} in {source}: the job reads {', '.join(endings)}.")
    return rows


def rows_of(path: Path, name: str, kind: str) -> Iterator[Row]:
    """The rows of one file, which is of the kind or may hold some. Raises ValueError for one that cannot be read."""
    ending, name = path.suffix.lower(), printable(name)
    if ending == ".tar":
        yield from (Row(f"{name}#{printable(stem)}", path, at) for stem, at in members(path, PICTURES if kind == "picture" else (".txt",)))
    elif ending == ".parquet":
        file = parquet(path)
        if column_of(file.schema_arrow.names, kind):
            yield from (Row(f"{name}#{number}", path, number) for number in range(file.metadata.num_rows))
    elif kind == "picture":
        yield Row(name, path)
    else:
        yield from (Row(f"{name}#{number}", path, number) for number, line in enumerate(lines_of(path)) if line.strip())


def members(path: Path, endings: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name without its ending, (offset, size)) of the files in a shard. Nothing is unpacked, and links are not followed."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:  # not compressed: rows are read from where they lie
            for member in shard:
                if member.isreg() and not member.issparse() and Path(member.name).suffix.lower() in endings:
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError(f"{member.name} ends behind its end")
                    yield Path(member.name).with_suffix("").as_posix(), (member.offset_data, member.size)
    except Exception as error:  # the parser meets foreign bytes here and can fail in any way
        raise ValueError(f"{path} is no readable tar file, or a compressed one: {printable(first_line(error))}.") from error


def printable(name: str) -> str:
    """A name as a text that can be written."""
    return name.encode("utf-8", "backslashreplace").decode()


def lines_of(path: Path) -> list[str]:
    """The lines of a text file; line feeds part them, and nothing else that Unicode calls a line's end. Raises ValueError."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} takes more than {LARGEST >> 30} GB: split it.")
    try:
        with path.open(encoding="utf-8") as file:
            return file.readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {first_line(error)}.") from error


def read_texts(rows: Sequence[Row]) -> list[str | ValueError]:
    """The texts of rows; for one that cannot be read, the reason."""
    lines = {path: lines_of(path) for path in {row.path for row in rows if row.path.suffix.lower() in TEXTS}}
    cells = parquet_cells(rows, "text")

    def read(row: Row) -> str:
        if row.path not in lines:
            return text_of(cells[row.id]) if row.id in cells else raw(row).decode().strip()
        line = lines[row.path][row.at]
        return line.strip() if row.path.suffix.lower() == ".txt" else text_of(named(json.loads(line), "text"))

    return [attempt(read, row) for row in rows]


def read_pictures(rows: Sequence[Row]) -> list[Image.Image | ValueError]:
    """The pictures of rows, RGB; for one that cannot be read, the reason. A path in a parquet cell is never followed."""
    cells = parquet_cells(rows, "picture")

    def read(row: Row) -> Image.Image:
        content = cells[row.id] if row.id in cells else raw(row)
        content = content.get("bytes") if isinstance(content, dict) else content
        if not isinstance(content, bytes):
            raise content if isinstance(content, ValueError) else ValueError("its cell holds no bytes of a picture")
        return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")

    return [attempt(read, row) for row in rows]


def text_of(value: object) -> str:
    """A text of a table or a JSON line."""
    if not isinstance(value, str):
        raise value if isinstance(value, ValueError) else ValueError("it holds no text")
    return value


def attempt(read: Callable[[Row], object], row: Row) -> object:
    """What `read` gives for a row, or a ValueError that says why it gives nothing: a bad row never stops a job."""
    try:
        return read(row)
    except UnidentifiedImageError:
        return ValueError(f"{row.id} cannot be read: it is no picture of a known format.")
    except Exception as error:  # parsers meet foreign bytes here and can fail in any way
        return ValueError(f"{row.id} cannot be read: {printable(first_line(error))}.")


def raw(row: Row) -> bytes:
    """The bytes of a whole file, or of a part of a shard. Raises ValueError for too many."""
    offset, size = row.at or (0, row.path.stat().st_size)
    if size > LARGEST:
        raise ValueError(f"it takes more than {LARGEST >> 30} GB")
    with row.path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def parquet(path: Path):
    """An open parquet file. Raises ValueError with what to install, or for a file that is none."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError('Parquet files need pyarrow: pip install "ray[data]".') from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # as above
        raise ValueError(f"{path} is no parquet file: {printable(first_line(error))}.") from error


def parquet_cells(rows: Sequence[Row], kind: str) -> dict[str, object]:
    """The cells of the rows that lie in parquet files, by id; each file is read once, and only where the rows are.

    Where that fails, the cells are ValueErrors with the reason.
    """
    cells = {}
    for path in {row.path for row in rows if row.path.suffix.lower() == ".parquet"}:
        from pyarrow import dataset

        inside = [row for row in rows if row.path == path]
        try:
            column = column_of(parquet(path).schema_arrow.names, kind)
            values = dataset.dataset(path).take([row.at for row in inside], columns=[column])[column].to_pylist()
        except Exception as error:  # as above
            values = [ValueError(f"its part of the table is damaged ({first_line(error)})")] * len(inside)
        cells.update({row.id: value for row, value in zip(inside, values, strict=True)})
    return cells


def column_of(names: Sequence[str], kind: str) -> str | None:
    """The column that holds what is wanted."""
    return next((name for name in COLUMNS[kind] if name in names), None)


def named(entry: dict, kind: str):
    """The value of the first known name in a JSON line."""
    name = column_of(tuple(entry), kind)
    if name is None:
        raise ValueError(f"the line has none of {', '.join(COLUMNS[kind])}")
    return entry[name]
