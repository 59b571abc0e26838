"""Find the rows of a data set: a folder of pictures, texts, lists, tables and shards, or one such file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Container, Iterator, Sequence
from io import StringIO
from pathlib import Path

from ..foreign import escape
from ..pictures import list_endings
from .read import list_shard, list_table
from .rows import FILE_NAMES, TEXT_NAMES, LeftOut, Listing, Row, add_text, find_first, find_text, read_text

LISTS = (".txt", ".jsonl", ".csv", ".tsv")
SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
BESIDE = (".caption", ".txt")  # the text of a picture; a .txt without one is a list


def find_rows(source: Path, recursive: bool = False) -> Listing:
    """List the rows of a folder or a file, sorted by file name. Texts are read, pictures are not.

    All kinds that a folder holds are used, as docs/data.md says; `recursive` takes its subfolders too. Raises
    FileNotFoundError, and ValueError for files that cannot be read and links that lead out of the folder.
    """
    if not os.path.exists(source):  # for names that cannot be, Path.exists raises errors
        raise FileNotFoundError(f"There is no file or folder {source}.")
    is_folder, passed_over = source.is_dir(), list[LeftOut]()
    if not is_folder and not (source.is_file() and find_kind(source)):
        known = ", ".join((*LISTS, ".parquet", *SHARDS))
        raise ValueError(f"{source} is no data set: give a folder, a picture, or one of {known}.")
    root = (source if is_folder else source.parent).resolve()
    files = [] if is_folder else [root / source.name]
    paths = (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in sorted(paths) if is_folder else ():
        name = path.relative_to(root)
        if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
            passed_over.append(LeftOut("hidden", name.as_posix()))
        elif len(name.parts) > 1 and not recursive:
            passed_over.append(LeftOut("in a subfolder (--recursive takes them)", name.as_posix()))
        elif not path.is_file():
            passed_over.append(LeftOut("link to a folder or to nothing, or no file", name.as_posix()))
        elif not path.resolve().is_relative_to(root):
            raise ValueError(f"{path} is a link that leads out of {source}: copy it in, or give its folder.")
        else:
            files.append(path)
    listed = list(list_files(files, root))
    names = {entry.id for entry in listed if isinstance(entry, Row)}  # a list may name some in subfolders
    found = [*(entry for entry in passed_over if entry.name not in names), *listed]
    rows = [entry._replace(id=escape(entry.id)) for entry in found if isinstance(entry, Row)]
    left_out = [LeftOut(entry.kind, escape(entry.name)) for entry in found if isinstance(entry, LeftOut)]
    return Listing(rows, left_out)


def find_kind(path: Path) -> str | None:
    """Tell by its name what a file is: list, table, shard, picture, or None."""
    kinds = {"list": LISTS, "table": (".parquet",), "shard": SHARDS, "picture": list_endings()}
    return next((kind for kind, endings in kinds.items() if path.name.lower().endswith(endings)), None)


def list_files(files: Sequence[Path], root: Path) -> Iterator[Row | LeftOut]:
    """Yield the rows of files below a folder, which their ids are relative to."""
    kinds = {path: find_kind(path) for path in files}
    texts: dict[Path, list[Path]] = {path.with_suffix(""): [] for path in files if kinds[path] == "picture"}
    for path in sorted(files, key=lambda path: path.suffix.lower()):  # .caption before .txt
        if path.suffix.lower() in BESIDE and path.with_suffix("") in texts:
            texts[path.with_suffix("")].append(path)
            del kinds[path]
    listed: dict[Path, str | None] = {}  # what lists say of pictures
    lists = {path: list(list_entries(path, root, listed, kinds)) for path in kinds if kinds[path] == "list"}
    for path, kind in kinds.items():
        name = path.relative_to(root).as_posix()
        if kind == "picture":
            beside = texts[path.with_suffix("")]
            others = [text.name for text in beside[1:]] + ["a list"] * bool(beside and listed.get(path))
            yield from (LeftOut("second text of a picture", f"{name}: {other}") for other in others)
            row = Row(name, None if beside else listed.get(path), str(path))
            yield from add_text(row, beside[0], read_text) if beside else [row]
        elif kind == "list":
            yield from lists[path]
        elif kind:
            yield from (list_shard if kind == "shard" else list_table)(path, name)
        else:
            reason = " without a picture" if path.suffix.lower() in BESIDE else ", which is not read"
            yield LeftOut(f"{path.suffix.lower() or 'without an ending'}{reason}", name)


def list_entries(
    path: Path, root: Path, listed: dict[Path, str | None], pictures: Container[Path]
) -> Iterator[Row | LeftOut]:
    """Yield the rows of a list; texts of `pictures`, which are rows anyway, go into `listed` instead."""
    for line, entry in read_list(path):
        name = f"{path.relative_to(root).as_posix()}#{line}"
        try:
            text, file_name = find_text(entry), entry.get(find_first(FILE_NAMES, entry))
        except ValueError:
            text = file_name = None
        if not isinstance(file_name, str) or not file_name.strip():
            yield Row(name, text) if text else LeftOut("entry not readable", name)
            continue
        picture = Path(os.path.normpath(path.parent / file_name.strip().replace("\\", "/")))
        is_there = find_kind(picture) == "picture" and os.path.isfile(picture)  # never raises
        if picture in listed:
            yield LeftOut("second entry for a picture", name)
        elif not (picture.resolve() if is_there else picture).is_relative_to(root):
            yield LeftOut("entry whose picture lies outside of the folder", name)
        elif not is_there:
            yield LeftOut("entry whose picture is missing", name)
        else:
            listed[picture] = text
            if picture not in pictures:
                yield Row(picture.relative_to(root).as_posix(), text, str(picture))


def read_list(path: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line from 0, entry) of a list, {} for an unreadable one. Raises ValueError for what is none."""
    text, ending = read_text(path), path.suffix.lower()
    if ending in (".csv", ".tsv"):
        head = text.partition("\n")[0]  # spreadsheets differ in what separates columns
        separator = "\t" if ending == ".tsv" else max("\t,;", key=head.count)  # none: one column
        lines = StringIO(text, newline="")
        reader: csv.DictReader = csv.DictReader(lines, delimiter=separator, restkey="\0", strict=True)
        try:
            if not find_first(names := (*FILE_NAMES, *TEXT_NAMES), reader.fieldnames or ()):
                raise ValueError(f"The first line of {path} names none of the columns {', '.join(names)}.")
            for row in reader:
                more = row.pop("\0", ())
                is_cut = any(cell.strip() for cell in more)  # a comma lacks its quotes
                yield reader.line_num - 1, {} if is_cut else row
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
