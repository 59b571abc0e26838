"""Find the rows of a data set: a folder of pictures, texts, lists, tables and shards, or one such file."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from ..pictures import picture_endings
from .rows import FILE_NAMES, LeftOut, Listing, Row, first_named, printable
from .shards import SHARDS, list_shard
from .tables import list_table
from .texts import LISTS, read_list, read_text_file, text_of

BESIDE = (".caption", ".txt")  # the text of a picture; a .txt without one is a list


def find_rows(source: Path, recursive: bool = False) -> Listing:
    """List the rows of a folder or a file, sorted by file name. Texts are read, pictures are not.

    - pictures, each with its text in a .caption or .txt file beside it, or in a list
    - .jsonl, .csv, .tsv: entries with a text, a file name relative to the list, or both; .txt: a text per
    line
    - .parquet: pictures as bytes or as structs with bytes, and texts; needs pyarrow
    - .tar, .tar.gz, .tar.bz2, .tar.xz: webdataset

    All kinds that a folder holds are used; `recursive` takes its subfolders too. Raises FileNotFoundError,
    and ValueError for a list, table or shard that cannot be read and for links that lead out of the folder.
    """
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:  # links in a circle, names that cannot be
        raise FileNotFoundError(f"There is no file or folder {source}.") from error
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode) or kind_of(source) is None:
            known = ", ".join((*LISTS, ".parquet", *SHARDS))
            raise ValueError(f"{source} is no data set: give a folder, a picture, or one of {known}.")
        return list_files([source.absolute()], source.absolute().parent)
    source, files, left_out = source.absolute(), [], []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if not path.is_file():
            continue
        if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
            left_out.append(LeftOut("hidden", printable(name.as_posix())))
        elif len(name.parts) > 1 and not recursive:
            left_out.append(LeftOut("in a subfolder (--recursive takes them)", printable(name.as_posix())))
        elif not path.resolve().is_relative_to(source.resolve()):
            advice = "copy the file there, or give the folder that it is in"
            raise ValueError(f"{path} is a link that leads out of {source}: {advice}.")
        else:
            files.append(path)
    listing = list_files(files, source)
    rows = {row.id for row in listing.rows}  # a list may name pictures in subfolders
    return Listing(listing.rows, [entry for entry in left_out if entry.name not in rows] + listing.left_out)


def kind_of(path: Path) -> str | None:
    """Tell by its name what a file is: list, beside (.caption), table, shard, picture, or None."""
    kinds = {
        "list": LISTS,
        "beside": BESIDE,
        "table": (".parquet",),
        "shard": SHARDS,
        "picture": picture_endings(),
    }
    return next((kind for kind, endings in kinds.items() if path.name.lower().endswith(endings)), None)


def list_files(files: Sequence[Path], root: Path) -> Listing:
    """List the rows of files below a folder, which their ids are relative to."""
    kinds = {path: kind_of(path) for path in files}
    stems = {path.with_suffix("") for path, kind in kinds.items() if kind == "picture"}
    texts: dict[Path, list[Path]] = {}  # of pictures, that which counts first
    for path in sorted(kinds, key=lambda path: path.suffix.lower() != BESIDE[0]):
        if path.suffix.lower() in BESIDE and path.with_suffix("") in stems:
            texts.setdefault(path.with_suffix(""), []).append(path)
            kinds[path] = "text"
    listed: dict[Path, str | None] = {}  # what lists say of pictures
    lists = {
        path: list(list_entries(path, root, listed, kinds)) for path, kind in kinds.items() if kind == "list"
    }
    found: list[Row | LeftOut] = []
    for path, kind in kinds.items():
        name = printable(path.relative_to(root).as_posix())
        if kind == "picture":
            beside = texts.get(path.with_suffix(""), [])
            found += read_picture_row(Row(name, listed.get(path), str(path)), beside)
        elif kind in ("shard", "table"):
            found += (list_shard if kind == "shard" else list_table)(path, name)
        elif kind == "list":
            found += lists[path]
        elif kind != "text":
            reason = " without a picture" if kind == "beside" else ", which is not read"
            found.append(LeftOut(f"{path.suffix.lower() or 'without an ending'}{reason}", name))
    return Listing([e for e in found if isinstance(e, Row)], [e for e in found if isinstance(e, LeftOut)])


def read_picture_row(row: Row, texts: Sequence[Path]) -> Iterator[Row | LeftOut]:
    """Yield the row of a picture with the first of the texts beside it; None beside keeps that of a list."""
    yield from (
        LeftOut("second text of a picture", f"{row.id}: {printable(path.name)}") for path in texts[1:]
    )
    try:
        yield row._replace(text=text_of(read_text_file(texts[0]))) if texts else row
    except ValueError as error:
        yield LeftOut("text not readable", printable(str(error)))
        yield row._replace(text=None)


def list_entries(
    path: Path, root: Path, listed: dict[Path, str | None], pictures: Container[Path]
) -> Iterator[Row | LeftOut]:
    """Yield the rows of a list; texts of `pictures`, which are rows anyway, go into `listed` instead."""
    for line, entry in read_list(path):
        name = f"{printable(path.relative_to(root).as_posix())}#{line - 1}"
        file_name = entry.get(first_named(FILE_NAMES, entry))
        try:
            text = text_of(entry)
        except ValueError:
            text, entry = None, {}
        if not entry or (text is None and not file_name):
            yield LeftOut("entry not readable", name)
            continue
        if not isinstance(file_name, str) or not file_name.strip():
            yield Row(name, text)
            continue
        picture = Path(os.path.normpath(path.parent / file_name.strip().replace("\\", "/")))
        if picture in listed:
            yield LeftOut("second entry for a picture", name)
        elif not picture.resolve().is_relative_to(root.resolve()):
            yield LeftOut("entry whose picture lies outside of the folder", name)
        elif kind_of(picture) != "picture" or not picture.is_file():
            yield LeftOut("entry whose picture is missing", name)
        else:
            listed[picture] = text
            if picture not in pictures:
                yield Row(printable(picture.relative_to(root).as_posix()), text, str(picture))
