"""Data that cannot or must not be read: each is named, with what is wrong with it."""

import gzip
import json
import os
import random
import tarfile

import pytest
from data_sets import PNG, message, texts, write_shard, write_table

from vd_core.datasets.find import find_rows
from vd_core.datasets.read import Reader


@pytest.mark.parametrize(("content", "line"), [(b"one\ntwo\ncaf\xe9\n", 3), (b"\x80", 1)])
def test_a_list_in_another_encoding_is_named_with_its_line(tmp_path, content, line):
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"p.txt, line {line}: this is no text in UTF-8"):
        find_rows(tmp_path)


def test_a_text_beside_a_picture_in_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9")
    (entry,) = find_rows(tmp_path).left_out
    assert entry.name.endswith("a.txt, line 2: this is no text in UTF-8; save the file as UTF-8.")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"name,label\nx,y\n", r"The first line of .*a.csv names none of the columns file_name"),
        ("a.csv", b'text\n"open', r"a.csv is no table behind its line 1: unexpected end"),
        ("a.tar", PNG, r"a.tar is no readable tar file: at its start"),
        ("a.tar.gz", b"\x1f\x8bno", r"a.tar.gz is no readable tar file: at its start"),
        ("a.tar", b"\x28\xb5\x2f\xfd", r"a.tar is no readable tar file"),
        ("a.zip", b"PK", r"a.zip is no data set: give a folder, a picture"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        find_rows(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("ending", ["png", "txt", "json"])
def test_damaged_members_are_named(tmp_path, name, ending):
    noise = random.Random(0).randbytes(5000)  # which does not compress
    write_shard(tmp_path / name, [("x/1.png", PNG), (f"x/2.{ending}", noise)], f"w:{name[6:]}")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:3000])
    end = "unexpected end of data" if name == "a.tar" else "Compressed file ended before"
    with pytest.raises(ValueError, match=rf"{name} is no readable tar file: at x/2.{ending}, {end}"):
        find_rows(tmp_path)


DAMAGES = {
    "flipped bit": lambda c: c[:2058] + bytes([c[2058] ^ 1]) + c[2059:],
    "cut in a header": lambda c: c[: 2 * 1024 + 100],
    "cut between members": lambda c: c[: 2 * 1024],
    "hole": lambda c: c[: 2 * 1024] + bytes(512) + c[2 * 1024 + 512 :],
    "two in one": lambda c: c[: 2 * 1024] + bytes(1024) + c,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_loses_no_row_in_silence(tmp_path, damage):
    """tarfile takes a header that is wrong, missing or of zeros for the end of the file."""
    write_shard(tmp_path / "a.tar", [(f"{i}.txt", b"text") for i in range(5)])  # 1024 bytes each
    content = DAMAGES[damage]((tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar is no readable tar file: at 1.txt, "):
        find_rows(tmp_path)


@pytest.mark.parametrize("damage", ["text", "checksum", "end"])
def test_checksums_of_compressed_shards_are_read(tmp_path, damage):
    write_shard(tmp_path / "a.tar", [("a.txt", b"the cat sits")])
    content = bytearray(gzip.compress((tmp_path / "a.tar").read_bytes(), 0))
    if damage == "text":
        place = content.index(b"the cat")
        content[place + 4 : place + 7] = b"bat"
    elif damage == "checksum":
        content[-5] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(content[:-8] if damage == "end" else content)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ValueError, match="at a.txt, (CRC check failed|Compressed file ended)"):
        find_rows(tmp_path)


@pytest.mark.parametrize("size", [-512, -2048])
def test_negative_sizes_end(tmp_path, size):
    """tarfile goes back to where it was, for ever (CVE-2025-8194)."""
    header = tarfile.TarInfo("b.txt")
    header.pax_headers = {"size": str(size)}
    member = header.create_pax_header(header.get_info(), "utf-8") + bytes(1024)
    write_shard(tmp_path / "a.tar", [("a.txt", b"text")])
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1024] + member)
    # newer Pythons than 3.12.11 refuse it themselves
    with pytest.raises(ValueError, match=f"at b.txt, it claims {size:,} bytes|at a.txt, no whole header"):
        find_rows(tmp_path)


@pytest.mark.parametrize("kind", [b"L", b"x"])
def test_names_that_take_a_gigabyte_are_not_unpacked(tmp_path, kind):
    header = tarfile.TarInfo("name")
    header.type, header.size = kind, 1 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb") as shard:
        shard.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    with pytest.raises(
        ValueError, match="at its start, a header claims 1,073,741,824 bytes of at most 1,048,576"
    ):
        find_rows(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_texts_in_utf_16_without_a_mark_are_named(tmp_path, encoding):
    (tmp_path / "p.txt").write_bytes("one\ntwo".encode(encoding))
    with pytest.raises(ValueError, match=r"p.txt, line 1: this is no text in UTF-8"):
        find_rows(tmp_path)


def test_a_nul_spoils_its_line_alone(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"one\na\0b\nthree and more")
    (tmp_path / "q.jsonl").write_text('{"text": "a\\u0000b"}')
    assert texts(tmp_path) == {"p.txt#0": "one", "p.txt#2": "three and more"}
    assert [kind for kind, _ in find_rows(tmp_path).left_out] == 2 * ["entry not readable"]


def test_a_table_that_lost_rows_is_refused(tmp_path):
    """One wrong bit of the footer can leave the row groups out."""
    write_table(tmp_path / "a.parquet", {"text": ["a", "b"]})
    content, lost = (tmp_path / "a.parquet").read_bytes(), 0
    footer = int.from_bytes(content[-8:-4], "little") + 8
    for place in range(len(content) - footer, len(content) - 8):
        for bit in range(8):
            changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            (tmp_path / "a.parquet").write_bytes(changed)
            try:
                listing = find_rows(tmp_path)
            except ValueError as error:
                lost += "rows were written" in str(error)
            else:
                assert len(listing.rows) == 2 or listing.left_out
    assert lost


def test_names_that_no_file_can_have_are_missing_pictures(tmp_path):
    lines = [
        {"image": "n" * 300 + ".png", "text": "long"},
        {"image": "data:image/png;base64," + "A" * 5000 + ".png"},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [kind for kind, _ in find_rows(tmp_path).left_out] == 2 * ["entry whose picture is missing"]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_small_shards_that_unpack_to_much_are_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("vd_core.datasets.read.LARGEST", 1 << 20)
    write_shard(tmp_path / "a.tar", [("a.png", bytes(2 << 20))], f"w:{kind}")
    with pytest.raises(ValueError, match="at a.png, it claims 2,097,152 bytes of at most 1,048,576"):
        find_rows(tmp_path)


def test_pictures_have_a_bound(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(PNG + bytes(1 << 20))
    monkeypatch.setattr("vd_core.datasets.read.LARGEST", 1 << 20)
    assert message(Reader(), find_rows(tmp_path).rows[0]) == "a.png cannot be read: it takes more than 1 MB."
    monkeypatch.setattr("vd_core.datasets.read.LARGEST", 1 << 20)
    write_shard(tmp_path / "b.tar", [("a.png", bytes(2 << 20)), ("b.png", PNG)])
    listing = find_rows(tmp_path / "b.tar").keep("picture")
    assert [row.id for row in listing.rows] == ["b.tar#b"] and "1 larger than 1 MB" in listing.summarize()
    monkeypatch.setattr("vd_core.datasets.rows.LARGEST", 10)
    (tmp_path / "p.txt").write_text("x" * 11)
    with pytest.raises(ValueError, match="p.txt takes more than 0 MB: split it"):
        find_rows(tmp_path / "p.txt")


def test_texts_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("vd_core.datasets.rows.LONGEST", 10)
    monkeypatch.setattr("vd_core.datasets.read.LONGEST", 10)
    (tmp_path / "p.txt").write_text("x" * 11 + "\nshort\n")
    write_shard(tmp_path / "a.tar", [("a.txt", b"x" * 11), ("b.txt", b"x" * 100), ("c.txt", b"short")])
    assert texts(tmp_path) == {"a.tar#c": "short", "p.txt#1": "short"}


def test_what_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "no", tmp_path / ("x" * 300)):
        with pytest.raises(FileNotFoundError, match="There is no file or folder"):
            find_rows(path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="is no data set"):
        find_rows(tmp_path / "pipe.png")
    assert find_rows(tmp_path).rows == []
    (tmp_path / "a.png").write_bytes(PNG)
    (row,) = find_rows(tmp_path).rows
    (tmp_path / "a.png").unlink()
    assert message(Reader(), row) == "a.png cannot be read: No such file or directory."
