"""What a bulk job works on: pictures and texts of a folder, of parquet files, of webdataset shards, or the lines of a text file."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEXTS = (".txt", ".jsonl")
COLUMNS = {"picture": ("image", "picture", "jpg", "png"), "text": ("text", "prompt", "caption", "txt")}


@dataclass(frozen=True)
class Row:
    """Where one picture or text lies; nothing of it has been read.

    id:   names it in the results, the same in every run.
    path: the file that holds it.
    at:   None for a whole file, (offset, size) in bytes inside a shard, a line number, or a row number of a parquet file.
    """

    id: str
    path: Path
    at: tuple[int, int] | int | None = None


def find_rows(source: Path, kind: str) -> list[Row]:
    """All rows of a kind ("picture" or "text") below a folder or in one file, sorted by file.

    Raises FileNotFoundError when there is no such path, ValueError when nothing of the kind is in it.
    """
    if not source.exists():
        raise FileNotFoundError(f"There is no file or folder {source}.")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    root = source if source.is_dir() else source.parent
    rows = [row for path in files for row in rows_of(path, path.relative_to(root).as_posix(), kind)]
    if not rows:
        endings = (*(PICTURES if kind == "picture" else TEXTS), ".parquet", ".tar")
        raise ValueError(f"There is no {kind} in {source}: the job reads {', '.join(endings)}.")
    return rows


def rows_of(path: Path, name: str, kind: str) -> Iterator[Row]:
    """The rows of one file; none where it is of another kind."""
    ending = path.suffix.lower()
    if ending == ".tar":
        wanted = PICTURES if kind == "picture" else (".txt",)
        with tarfile.open(path) as shard:
            for member in shard:
                if member.isfile() and Path(member.name).suffix.lower() in wanted:
                    yield Row(f"{name}#{Path(member.name).with_suffix('').as_posix()}", path, (member.offset_data, member.size))
    elif ending == ".parquet":
        file = parquet(path)
        if column_of(file.schema_arrow.names, kind):
            yield from (Row(f"{name}#{number}", path, number) for number in range(file.metadata.num_rows))
    elif kind == "picture" and ending in PICTURES:
        yield Row(name, path)
    elif kind == "text" and ending in TEXTS:
        with path.open(encoding="utf-8") as lines:
            yield from (Row(f"{name}#{number}", path, number) for number, line in enumerate(lines) if line.strip())


def read_texts(rows: Sequence[Row]) -> list[str | ValueError]:
    """The texts of rows; for one that cannot be read, the reason."""
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in {row.path for row in rows if row.path.suffix.lower() in TEXTS}}
    cells = parquet_cells(rows, "text")

    def read(row: Row) -> str:
        if row.path in lines:
            line = lines[row.path][row.at]
            return line.strip() if row.path.suffix.lower() == ".txt" else str(named(json.loads(line), "text"))
        return str(cells[row.id]) if row.id in cells else raw(row).decode("utf-8").strip()

    return [attempt(read, row) for row in rows]


def read_pictures(rows: Sequence[Row]) -> list[Image.Image | ValueError]:
    """The pictures of rows, RGB; for one that cannot be read, the reason."""
    cells = parquet_cells(rows, "picture")

    def read(row: Row) -> Image.Image:
        cell = cells.get(row.id)
        content = raw(row) if cell is None else cell["bytes"] if isinstance(cell, dict) else cell
        return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")

    return [attempt(read, row) for row in rows]


def attempt(read, row: Row):
    """What `read` gives for a row, or a ValueError that says why it gives nothing: a bad row never stops a job."""
    try:
        return read(row)
    except UnidentifiedImageError:
        return ValueError(f"{row.id} cannot be read: it is no picture of a known format.")
    except (OSError, ValueError, KeyError, IndexError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        return ValueError(f"{row.id} cannot be read: {error}.")


def raw(row: Row) -> bytes:
    """The bytes of a whole file, or of a part of a shard."""
    with row.path.open("rb") as file:
        if row.at is None:
            return file.read()
        offset, size = row.at
        file.seek(offset)
        return file.read(size)


def parquet(path: Path):
    """An open parquet file. Raises ValueError with what to install, or for a file that is none."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise ValueError('Parquet files need pyarrow: pip install "ray[data]".') from error
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no parquet file: {error}") from error


def parquet_cells(rows: Sequence[Row], kind: str) -> dict[str, object]:
    """The cells of the rows that lie in parquet files, by id; each file is read once, and only where the rows are."""
    cells = {}
    for path in {row.path for row in rows if row.path.suffix.lower() == ".parquet"}:
        from pyarrow import dataset

        inside = [row for row in rows if row.path == path]
        column = column_of(parquet(path).schema_arrow.names, kind)
        values = dataset.dataset(path).take([row.at for row in inside], columns=[column])[column].to_pylist()
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
