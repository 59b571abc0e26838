"""The files of a bulk job, one per batch: parquet for texts and numbers, webdataset shards for pictures."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import write_whole

CAPTIONS = "captions.csv"
PICTURE_TASKS = ("variation", "text-to-image", "reconstruct")


def locate_part(folder: Path, task: str, number: int) -> Path:
    """Return where a part lies. A file of this name is complete."""
    return folder / f"part-{number:06d}{'.tar' if task in PICTURE_TASKS else '.parquet'}"


def find_parts(folder: Path) -> list[tuple[int, Path]]:
    """Find the parts of any task in a folder, with their numbers; other files of such names are not ours."""
    found = ((re.fullmatch(r"part-([0-9]{6,})\.(tar|parquet)", path.name), path) for path in folder.iterdir())
    return [(int(match[1]), path) for match, path in found if match]


def write_part(path: Path, results: Sequence[dict], first: int) -> None:
    """Write the results of one batch as one whole file; its first row has the number `first` in the job."""
    with write_whole(path) as file:
        file.write(make_shard(results, first) if path.suffix == ".tar" else make_table(results))


def make_table(results: Sequence[dict]) -> bytes:
    """Make a parquet file: id, error, and captions (lists of texts, with scores and not_sure where they were
    compared with the pictures) or embedding (lists of numbers).
    """
    import pyarrow
    from pyarrow import parquet

    numbers = pyarrow.list_(pyarrow.float32())
    columns = {"captions": pyarrow.list_(pyarrow.string()), "scores": numbers, "not_sure": pyarrow.bool_()}
    columns["embedding"] = numbers
    given = {name: kind for name, kind in columns.items() if any(name in result for result in results)}
    schema = pyarrow.schema({"id": pyarrow.string(), "error": pyarrow.string(), **given})
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(results), schema), file)
    return file.getvalue()


def make_shard(results: Sequence[dict], first: int) -> bytes:
    """Make a tar file: NUMBER-I.png, and NUMBER-I.json with id and error; of failed rows just the latter.

    Results with `scores`, a number for each picture, have them in the latter too.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, result in enumerate(results, start=first):
            for i, picture in enumerate(result.get("pictures", [None])):
                entry = {"id": result["id"], "error": result["error"]}
                entry |= {"score": result["scores"][i]} if "scores" in result else {}
                about = json.dumps(entry, ensure_ascii=False).encode()
                members = {"json": about} if picture is None else {"png": picture, "json": about}
                for ending, content in members.items():
                    member = tarfile.TarInfo(f"{number:09d}-{i}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def is_picture(name: str) -> bool:
    """Tell whether a name is one of a part's pictures, NUMBER-I.png."""
    return bool(re.fullmatch(r"\d+-\d+\.png", name))


def unpack_pictures(path: Path, folder: Path) -> list[str]:
    """Write the pictures of a part as files of their own into a folder; return their names."""
    names = []
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if is_picture(member.name) and (picture := tar.extractfile(member)):
                with write_whole(folder / member.name) as file:
                    file.write(picture.read())
                names.append(member.name)
    return names


def write_captions(path: Path, parts: Sequence[Path], count: int) -> None:
    """Write the captions of all parts as one table: file_name, caption, caption_2, … caption_`count`; then
    score, score_2 …, and not_sure, "yes" or empty, where the captions were compared with their pictures.

    A spreadsheet opens it, and beside its pictures it is a list that training reads. Rows that failed are
    left out.
    """
    from pyarrow import parquet

    ends = ("", *(f"_{number}" for number in range(2, count + 1)))
    columns = ["file_name", *(f"caption{end}" for end in ends)]
    is_scored = any("scores" in parquet.read_schema(part).names for part in parts)
    if is_scored:
        columns += [*(f"score{end}" for end in ends), "not_sure"]
    with write_whole(path) as file:
        file.write(codecs.BOM_UTF8)  # without it Excel reads another encoding
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        for part in parts:
            for row in parquet.read_table(part).to_pylist():
                # A part of a job that was begun by an earlier version has none.
                scores = [f"{score:.3f}" for score in row.get("scores") or ()] or [""] * count
                doubt = "yes" if row.get("not_sure") else ""
                if not row["error"]:
                    table.writerow([row["id"], *row["captions"], *([*scores, doubt] if is_scored else ())])
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()


def read_errors(path: Path) -> list[dict]:
    """List the rows of a part that failed: id and error. Raises ValueError for a part that is damaged."""
    try:
        return [row for row in read_entries(path) if row["error"]]
    except Exception as error:  # whatever became of the file
        raise ValueError(f"{path} is damaged: delete it, then the same command makes it again.") from error


def read_entries(path: Path) -> Iterator[dict]:
    """Yield id and error of all rows of a part."""
    if path.suffix == ".tar":
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.name.endswith(".json") and (entry := tar.extractfile(member)):
                    yield json.load(entry)
    else:
        from pyarrow import parquet

        yield from parquet.read_table(path, columns=["id", "error"]).to_pylist()
