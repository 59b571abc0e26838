"""What bulk jobs are given to read: names that lead elsewhere, links, bombs and damaged shards, tables, lists
and pictures."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vd_core.bulk.parts import locate_part, read_errors, write_part
from vd_core.datasets.find import find_rows
from vd_core.datasets.read import Reader
from vd_core.datasets.rows import Row
from vd_core.pictures import crop_square, read_picture

from .forked import Result, Table, judge_error, run_forked

FLIPPED = 60  # of each format
SECRET = "SECRET WORDS"
NAMES = (
    "../../elsewhere/secret",
    "/etc/passwd",
    "//server/share",
    "C:\\x",
    "c:x",
    "..\\..\\x",
    "a/../../../x",
    "~/x",
    "CON",
    "nul",
    "aux.x",
    "COM1",
    "x\0y",
    "x\ny",
    "\udcff\udcfe",
    "a" * 300,
    "é" * 300,
    "\u202e",
    "",
    ".",
    "..",
    "-rf",
    "{}",
    "$(id)",
    "…" * 99,
)
Make = Callable[[Path], object]

LINKS = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE),
    *(tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE),
)
TARGETS = (
    *("secret.png", "secret.txt", "secret.tar", "secret.parquet"),
    *("nothing.png", "/dev/zero", "/etc/passwd", "."),
)


def make_png(width: int = 24, height: int = 16) -> bytes:
    """Make a picture."""
    file = io.BytesIO()
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def write_shard(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> None:
    """Write a tar file of these members."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))


def make_member(name: str, **values) -> tarfile.TarInfo:
    """Make a member of that name."""
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


def make_pair(name: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Make a picture and its text under a name."""
    return [(make_member(f"{name}.png"), make_png()), (make_member(f"{name}.txt"), b"red apple")]


def write_links(kind: bytes, path: Path) -> None:
    """Write members that are links to a file elsewhere."""
    target = str(path.parent.parent / "elsewhere" / "secret")
    links = [
        (make_member(f"l{ending}", type=kind, linkname=f"{target}{ending}"), b"")
        for ending in (".png", ".txt")
    ]
    write_shard(path / "a.tar", links + make_pair("good"))


def write_claim(kind: bytes, path: Path) -> None:
    """Write a member, or a header of pax or GNU, that claims 100 GB."""
    info = make_member("a.png", size=100 << 30, type=kind)
    (path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def write_packed_claim(kind: bytes, path: Path) -> None:
    """Write one that takes 1 GB when it is unpacked, to be read or passed over, in a small file."""
    with gzip.open(path / "a.tar.gz", "wb", compresslevel=1) as shard:
        shard.write(make_member("a", size=1 << 30, type=kind).tobuf(tarfile.GNU_FORMAT))
        for _ in range(1 << 10):
            shard.write(bytes(1 << 20))


def write_way_back(path: Path) -> None:
    """Write a size that leads a reader back to the same member."""
    info = make_member("a.png", pax_headers={"size": "-1536"})
    (path / "a.tar").write_bytes(info.create_pax_header(info.get_info(), "utf-8") + bytes(1024))


def write_sparse(name: str, path: Path) -> None:
    """Write a file of 100 GB that takes no room."""
    (path / name).write_bytes(b"")
    os.truncate(path / name, 100 << 30)


def link(name: str, target: str, path: Path) -> None:
    """Make a link in the folder."""
    (path / name).symlink_to(path.parent / "elsewhere" / target if target[0] != "/" else target)


def write_lines(content: bytes | str, name: str, path: Path) -> None:
    """Write a file of texts."""
    (path / name).write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )


def write_table(columns: dict, path: Path) -> None:
    """Write a parquet file."""
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path / "a.parquet")


def make_hostile() -> Iterator[tuple[str, Make]]:
    """Make inputs that lead elsewhere, or are too much."""
    for name in NAMES:
        yield f"member {name[:20]!r}", lambda path, name=name: write_shard(path / "a.tar", make_pair(name))
        if (
            name not in ("", ".", "..")
            and "/" not in name
            and "\0" not in name
            and len(os.fsencode(name)) < 250
        ):
            yield (
                f"file {name[:20]!r}",
                lambda path, name=name: [
                    (path / f"{name}.png").write_bytes(make_png()),
                    write_lines("a", f"{name}.txt", path),
                ],
            )
    for kind in LINKS:
        yield f"members of type {kind!r}", partial(write_links, kind)
    for target in TARGETS:
        for ending in (Path(target).suffix or ".txt", ".png"):
            yield f"link{ending} to {target}", partial(link, f"link{ending}", target)
    yield "link to a folder", partial(link, "folder", ".")
    yield "link to itself", lambda path: (path / "a.png").symlink_to(path / "a.png")
    yield "pipe", lambda path: [os.mkfifo(path / name) for name in ("a.png", "a.txt", "a.tar", "a.parquet")]
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME):
        yield f"member of 100 GB of type {kind!r}", partial(write_claim, kind)
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"Z"):
        yield f"packed member of 1 GB of type {kind!r}", partial(write_packed_claim, kind)
    yield "member of -1536 bytes", write_way_back
    for name in ("a.png", "a.txt", "a.jsonl", "a.tar", "a.parquet"):
        yield f"{name} of 100 GB", partial(write_sparse, name)
    for mode in ("w:gz", "w:xz"):
        yield (
            f"compressed shard, {mode}",
            lambda path, mode=mode: write_shard(
                path / "a.tar", [(make_member("a.png"), bytes(200 << 20))], mode
            ),
        )
    wide = make_png().replace(make_png()[16:24], b"\0\0\xea\x60" * 2)
    yield "picture of 60,000 sides", partial(write_lines, wide, "a.png")
    for mode, sides in (("1", (13_000, 13_000)), ("LA", (13_000, 13_000)), ("1", (60_000, 1))):
        yield (
            f"{mode} picture of {sides}",
            lambda path, mode=mode, sides=sides: Image.new(mode, sides).save(path / "a.png"),
        )
    texts = {
        "no UTF-8": b"\xff\xfe\n",
        "NUL": b"\0\n",
        "unpaired": "\ud800\n",
        "a million": "x" * 10**6,
        "all ends": "a\x0bb\x1c\u2028c\x85d\ne\n",
    }
    objects = {
        "null": '{"text": null}',
        "number": '{"text": 1}',
        "list": "[1]",
        "deep": "[" * 10**5,
        "twice": '{"text": "a", "text": {"a": 1}}',
        "other": '{"x": 1}',
        "endless": '{"text": 1e999}',
        "surrogate": '{"text": "\\ud800"}',
        "path": '{"image": "../../elsewhere/secret.png"}',
        "NUL in a path": '{"image": "a\\u0000.png"}',
        "half a character in a path": '{"image": "\\ud800.png"}',
    }
    for name, content in texts.items():
        yield f"text, {name}", partial(write_lines, content, "a.txt")
    for name, content in objects.items():
        yield f"JSON line, {name}", partial(write_lines, content + "\n", "a.jsonl")
    if importlib.util.find_spec("pyarrow"):
        secret = "../elsewhere/secret.png"
        cells = {
            "path": [{"bytes": None, "path": secret}],
            "words": [secret],
            "bytes": [secret.encode()],
            "none": [None],
            "numbers": [[1, 2]],
        }
        for name, values in cells.items():
            yield f"table of {name}", partial(write_table, {"image": values, "text": values})


def make_good() -> Iterator[tuple[str, Make, bytes, str]]:
    """Make (format, its bytes, its name) of good inputs, to be damaged."""
    yield "png", make_png(), "a.png"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for info, content in make_pair("a") + make_pair("b"):
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    yield "tar", file.getvalue(), "a.tar"
    yield "jsonl", b'{"text": "red apple"}\n{"caption": "b"}\n', "a.jsonl"
    if importlib.util.find_spec("pyarrow"):
        import pyarrow
        from pyarrow import parquet

        file = io.BytesIO()
        parquet.write_table(
            pyarrow.table({"image": [make_png(), make_png(8, 8)], "text": ["red apple", "b"]}), file
        )
        yield "parquet", file.getvalue(), "a.parquet"


def damage(rng: random.Random) -> Iterator[tuple[str, Make]]:
    """Flip bits and cut ends."""
    for kind, data, name in make_good():
        for number in range(FLIPPED):
            changed = bytearray(data)
            for _ in range(1 + number % 4):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            content = bytes(changed) if number % 3 else data[: rng.randrange(len(data))]
            yield f"damaged {kind} #{number}", partial(write_lines, content, name)


def read(row: Row, kind: str) -> object:
    """The picture or the text of a row, or why it cannot be read. A picture is cut as CLIP takes it."""
    if kind == "text":
        return row.text
    try:
        picture = read_picture(Reader().read(row), row.id)
    except ValueError as error:
        return error
    crop_square(picture, 224)
    return picture


def try_folder(place: Path) -> Result:
    """Read and write the rows of a folder as a job does: nothing comes from elsewhere, nothing goes
    elsewhere."""
    source, out, refused = place / "in", place / "out", None
    for kind in ("picture", "text"):
        try:
            listing = find_rows(source, recursive=True)
            rows = listing.keep(kind).rows
        except (ValueError, OSError) as error:
            if (refused := judge_error(error)).end == "lost":
                return refused
            continue
        found = [read(row, kind) for row in rows]
        results = [
            {"id": row.id, "error": str(value) if isinstance(value, ValueError) else ""}
            for row, value in zip(rows, found, strict=True)
        ]
        if bad := [
            result["error"]
            for result in results
            if result["error"] and judge_error(ValueError(result["error"])).end == "lost"
        ]:
            return Result("lost", bad[0])
        for task in (
            ("variation",)
            if kind == "picture"
            else ("text-to-image", "caption")
            if importlib.util.find_spec("pyarrow")
            else ()
        ):
            made = [
                result if result["error"] else {**result, "captions": ["x"], "pictures": [b"png"]}
                for result in results
            ]
            write_part(locate_part(out, task, 0), made, 0)
            if len(read_errors(locate_part(out, task, 0))) != sum(
                bool(result["error"]) for result in results
            ):
                return Result("wrong", "other errors were written")
        seen = [value for value in found if not isinstance(value, ValueError)]
        if any(SECRET in value if isinstance(value, str) else value.size == (77, 77) for value in seen):
            return Result("executed", "it read what lies elsewhere")
        for path in out.glob("*.tar"):
            with tarfile.open(path) as tar:
                if any("/" in name or ".." in name for name in tar.getnames()):
                    return Result("wrong", "a name leads elsewhere")
    stray = [
        str(path)
        for path in place.rglob("*")
        if path.parent.name not in ("in", "out", "elsewhere") and not path.is_dir()
    ]
    return Result("wrong", f"wrote {stray}") if stray else refused or Result("survived")


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """All cases, or about a share of them."""
    rng = random.Random(seed)
    for number, (name, make) in enumerate([*make_hostile(), *damage(rng)]):
        if number % 50 and rng.random() >= share:
            continue
        place = folder / str(number)
        for part in ("in", "out", "elsewhere"):
            (place / part).mkdir(parents=True)
        (place / "elsewhere" / "secret.txt").write_text(SECRET)
        (place / "elsewhere" / "secret.png").write_bytes(make_png(77, 77))
        write_shard(
            place / "elsewhere" / "secret.tar",
            [(make_member("s.png"), make_png(77, 77)), (make_member("s.txt"), SECRET.encode())],
        )
        make(place / "in")
        table.add("what bulk jobs read", name, run_forked(partial(try_folder, place)))
