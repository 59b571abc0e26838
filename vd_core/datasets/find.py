"""Find the rows of a data set: a folder of pictures, texts, lists, tables and shards, or one such file."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from ..pictures import list_endings
from .rows import FILE_NAMES, PICTURE_NAMES, TEXT_NAMES, LeftOut, Listing, Row, escape, find_first
from .shards import SHARDS, list_shard
from .texts import LISTS, find_text, open_table, read_list, read_table, read_text_file

BESIDE = (".caption", ".txt")  # the text of a picture; a .txt without one is a list


def find_rows(source: Path, recursive: bool = False) -> Listing:
    """List the rows of a folder or a file, sorted by file name. Texts are read, pictures are not.

    - pictures, each with its text in a .caption or .txt file beside it, or in a list
    - .jsonl, .csv, .tsv: entries with a text, a file name relative to the list, or both; .txt: lines
    - .parquet: pictures as bytes or as structs with bytes, and texts; needs pyarrow
    - .tar, .tar.gz, .tar.bz2, .tar.xz: webdataset

    All kinds that a folder holds are used; `recursive` takes its subfolders too. Raises FileNotFoundError,
    and ValueError for a list, table or shard that cannot be read and for links that lead out of the folder.
    """
    try:
        is_folder = source.is_dir()
        source.stat()
    except (OSError, ValueError) as error:  # links in a circle, names that cannot be
        raise FileNotFoundError(f"There is no file or folder {source}.") from error
    source = source.absolute()
    if not is_folder:
        if not source.is_file() or find_kind(source) is None:
            known = ", ".join((*LISTS, ".parquet", *SHARDS))
            raise ValueError(f"{source} is no data set: give a folder, a picture, or one of {known}.")
        return list_files([source], source.parent)
    files, left_out = [], []
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source)
        if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
            left_out.append(LeftOut("hidden", escape(name.as_posix())))
        elif len(name.parts) > 1 and not recursive:
            left_out.append(LeftOut("in a subfolder (--recursive takes them)", escape(name.as_posix())))
        elif not path.resolve().is_relative_to(source.resolve()):
            advice = "copy the file there, or give the folder that it is in"
            raise ValueError(f"{path} is a link that leads out of {source}: {advice}.")
        else:
            files.append(path)
    listing = list_files(files, source)
    names = {row.id for row in listing.rows}  # a list may name pictures in subfolders
    return Listing(listing.rows, [entry for entry in left_out if entry.name not in names] + listing.left_out)


def find_kind(path: Path) -> str | None:
    """Tell by its name what a file is: list, beside (.caption), table, shard, picture, or None."""
    kinds: dict[str, str | tuple[str, ...]] = {
        "list": LISTS,
        "beside": BESIDE,
        "table": ".parquet",
        "shard": SHARDS,
        "picture": list_endings(),
    }
    return next((kind for kind, endings in kinds.items() if path.name.lower().endswith(endings)), None)


def list_files(files: Sequence[Path], root: Path) -> Listing:
    """List the rows of files below a folder, which their ids are relative to."""
    kinds: dict[Path, str | None] = {path: find_kind(path) for path in files}
    texts: dict[Path, list[Path]] = {path.with_suffix(""): [] for path in files if kinds[path] == "picture"}
    for path in sorted(files, key=lambda path: path.suffix.lower() != BESIDE[0]):
        if path.suffix.lower() in BESIDE and path.with_suffix("") in texts:
            texts[path.with_suffix("")].append(path)
            kinds[path] = "text"
    listed: dict[Path, str | None] = {}  # what lists say of pictures
    lists = {path: list(list_entries(path, root, listed, kinds)) for path in files if kinds[path] == "list"}
    found: list[Row | LeftOut] = []
    for path, kind in kinds.items():
        name = escape(path.relative_to(root).as_posix())
        if kind == "picture":
            found += list_picture(Row(name, listed.get(path), str(path)), texts[path.with_suffix("")])
        elif kind in ("shard", "table"):
            found += (list_shard if kind == "shard" else list_table)(path, name)
        elif kind == "list":
            found += lists[path]
        elif kind != "text":
            reason = " without a picture" if kind == "beside" else ", which is not read"
            found.append(LeftOut(f"{path.suffix.lower() or 'without an ending'}{reason}", name))
    return Listing([e for e in found if isinstance(e, Row)], [e for e in found if isinstance(e, LeftOut)])


def list_picture(row: Row, texts: Sequence[Path]) -> Iterator[Row | LeftOut]:
    """Yield the row of a picture with the first text beside it; without any it keeps that of a list."""
    yield from (LeftOut("second text of a picture", f"{row.id}: {escape(path.name)}") for path in texts[1:])
    try:
        yield row._replace(text=find_text(read_text_file(texts[0]))) if texts else row
    except ValueError as error:
        yield LeftOut("text not readable", escape(str(error)))
        yield row._replace(text=None)


def list_table(path: Path, name: str) -> Iterator[Row | LeftOut]:
    """Yield the rows of a parquet file, whose ids are `name`#NUMBER."""
    with open_table(path) as table:
        columns = table.schema_arrow.names
    picture, column = find_first(PICTURE_NAMES, columns), find_first(TEXT_NAMES, columns)
    if picture is None and column is None:
        yield LeftOut(f"without a column {', '.join((*PICTURE_NAMES, *TEXT_NAMES))}", name)
        return
    for number, text in read_table(path, column):
        row = Row(f"{name}#{number}", None, picture and str(path), number, None, picture or "")
        try:
            yield row._replace(text=find_text(text))
        except ValueError:
            yield LeftOut("text not readable", row.id)
            yield row


def list_entries(
    path: Path, root: Path, listed: dict[Path, str | None], pictures: Container[Path]
) -> Iterator[Row | LeftOut]:
    """Yield the rows of a list; texts of `pictures`, which are rows anyway, go into `listed` instead."""
    for line, entry in read_list(path):
        name, file_name = f"{escape(path.relative_to(root).as_posix())}#{line}", None
        if field := find_first(FILE_NAMES, entry):
            file_name = entry[field] if isinstance(entry[field], str) else None
        try:
            text = find_text(entry)
        except ValueError:
            text, file_name = None, None
        if not file_name or not file_name.strip():
            yield Row(name, text) if text else LeftOut("entry not readable", name)
            continue
        picture = Path(os.path.normpath(path.parent / file_name.strip().replace("\\", "/")))
        try:
            inside, is_there = picture.resolve().is_relative_to(root.resolve()), picture.is_file()
        except (OSError, ValueError, RuntimeError):  # names that cannot be, links in a circle
            yield LeftOut("entry whose picture is missing", name)
            continue
        if picture in listed:
            yield LeftOut("second entry for a picture", name)
        elif not inside:
            yield LeftOut("entry whose picture lies outside of the folder", name)
        elif find_kind(picture) != "picture" or not is_there:
            yield LeftOut("entry whose picture is missing", name)
        else:
            listed[picture] = text
            if picture not in pictures:
                yield Row(escape(picture.relative_to(root).as_posix()), text, str(picture))
