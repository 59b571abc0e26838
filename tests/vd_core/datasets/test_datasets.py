"""Data sets of every kind: which rows they have, what is left out and why, and what is read in them."""

import json
import os
import sys
from contextlib import suppress

import numpy as np
import pytest
from data_sets import PNG, message, pictured, texts, write_shard, write_table
from picture_files import encode, picture_files, pixels
from PIL import Image

from vd_core.datasets import rows as names
from vd_core.datasets.find import find_rows
from vd_core.datasets.read import Reader, read_table
from vd_core.datasets.rows import Row
from vd_core.pictures import read_picture
from vd_core.runs import hash_rows

FILES = picture_files()
OTHER = encode(Image.fromarray(pixels(1)), "PNG")


@pytest.mark.parametrize("where", ["folder", "shard", "gz", "xz", "table"])
def test_every_picture_file_is_read_alike_wherever_it_lies(tmp_path, where):
    if where == "folder":
        for file in FILES:
            (tmp_path / file.name).write_bytes(file.content)
    elif where == "table":
        write_table(tmp_path / "a.parquet", {"image": [file.content for file in FILES]})
    else:
        mode, ending = ("w", "") if where == "shard" else (f"w:{where}", f".{where}")
        members = [
            (f"{number:02}.{file.name.rpartition('.')[2]}", file.content) for number, file in enumerate(FILES)
        ]
        write_shard(tmp_path / f"a.tar{ending}", members, mode)
    listing, reader = find_rows(tmp_path).keep("picture"), Reader()
    expected = sorted(FILES, key=lambda file: file.name) if where == "folder" else FILES
    assert not listing.left_out and len(listing.rows) == len(FILES) >= 30
    for row, file in zip(listing.rows, expected, strict=True):
        found = np.asarray(read_picture(reader.read(row), row.id)).astype(int)
        np.testing.assert_allclose(found, file.expected, atol=file.atol, rtol=0, err_msg=file.name)


def test_rows_can_be_read_in_any_order(tmp_path):
    contents = [encode(Image.fromarray(pixels(seed)), "PNG") for seed in range(40)]
    write_shard(
        tmp_path / "a.tar.gz",
        [(f"{number:02}.png", content) for number, content in enumerate(contents)],
        "w:gz",
    )
    write_table(tmp_path / "b.parquet", {"png": contents, "text": ["x"] * 40})
    write_table(tmp_path / "c.parquet", {"png": contents, "jpg": [None] * 40, "text": ["x"] * 40})
    rows, reader = find_rows(tmp_path).keep("picture").rows, Reader()
    assert len(rows) == 120
    assert all("cell holds no bytes" in message(reader, row) for row in rows[80:])  # jpg comes first
    for number in (*range(0, 80, 7), *range(79, 0, -11)):
        assert reader.read(rows[number]) == contents[number % 40]


# (files, ids of pictures, texts by id, kinds of what is left out where pictures are wanted)
CASES = {
    "pictures with texts": (
        {
            "a.png": PNG,
            "a.txt": b"one\n",
            "b.JPG": PNG,
            "b.TXT": b"two",
            "c.jfif": PNG,
            "c.caption": b"three",
        },
        ["a.png", "b.JPG", "c.jfif"],
        {"a.png": "one", "b.JPG": "two", "c.jfif": "three"},
        [],
    ),
    "several dots": ({"cat.v2.png": PNG, "cat.v2.txt": b"cat"}, ["cat.v2.png"], {"cat.v2.png": "cat"}, []),
    "two texts": (
        {"a.png": PNG, "a.txt": b"no", "a.caption": b"yes"},
        ["a.png"],
        {"a.png": "yes"},
        ["second text of a picture"],
    ),
    "lines": (
        {"p.txt": b"one\n\n two \r\n"},
        [],
        {"p.txt#0": "one", "p.txt#2": "two"},
        [".txt without a picture"],
    ),
    "line ends of Unicode": (
        {"p.txt": "a\u2028b\x0b\x85\nc".encode()},
        [],
        {"p.txt#0": "a\u2028b", "p.txt#1": "c"},
        [".txt without a picture"],
    ),
    "UTF-8 with BOM": ({"p.txt": b"\xef\xbb\xbf\xc3\xa9"}, [], {"p.txt#0": "é"}, [".txt without a picture"]),
    "UTF-16": ({"a.png": PNG, "a.txt": "é\n".encode("utf-16")}, ["a.png"], {"a.png": "é"}, []),
    "UTF-16 big endian": (
        {"a.png": PNG, "a.txt": b"\xfe\xff" + "é".encode("utf-16-be")},
        ["a.png"],
        {"a.png": "é"},
        [],
    ),
    "cp1252 beside a picture": ({"a.png": PNG, "a.txt": b"caf\xe9"}, ["a.png"], {}, ["text not readable"]),
    "empty text": ({"a.png": PNG, "a.txt": b" \n"}, ["a.png"], {}, []),
    "hidden": ({"._a.png": b"mac", ".DS_Store": b"", "a.png": PNG}, ["a.png"], {}, ["hidden", "hidden"]),
    "__MACOSX": ({"__MACOSX/a.png": b"mac", "a.png": PNG}, ["a.png"], {}, ["hidden"]),
    "unknown endings": (
        {"a.png": PNG, "b.heic": b"", "c.eps": b"", "d": b""},
        ["a.png"],
        {},
        [".heic, which is not read", ".eps, which is not read", "without an ending, which is not read"],
    ),
    "subfolder": ({"a.png": PNG, "s/b.png": PNG}, ["a.png"], {}, ["in a subfolder (--recursive takes them)"]),
    "metadata.jsonl": (
        {"a.png": PNG, "metadata.jsonl": b'{"file_name": "a.png", "text": "one"}\n'},
        ["a.png"],
        {"a.png": "one"},
        [],
    ),
    "JSON with BOM": (
        {"a.png": PNG, "m.jsonl": b'\xef\xbb\xbf{"file_name": "a.png", "text": "one"}\n'},
        ["a.png"],
        {"a.png": "one"},
        [],
    ),
    "metadata.csv": (
        {"a.png": PNG, "metadata.csv": b'file_name,text\na.png,"one, two"\n'},
        ["a.png"],
        {"a.png": "one, two"},
        [],
    ),
    "semicolons": (
        {"a.png": PNG, "m.csv": b"File_Name;Caption\na.png;one, two\n"},
        ["a.png"],
        {"a.png": "one, two"},
        [],
    ),
    "tabs": ({"a.png": PNG, "m.tsv": b"image\tprompt\na.png\tone\n"}, ["a.png"], {"a.png": "one"}, []),
    "a list names a subfolder": (
        {"s/a.png": PNG, "m.csv": b"file_name,text\ns\\a.png,one\n"},
        ["s/a.png"],
        {"s/a.png": "one"},
        [],
    ),
    "missing pictures": (
        {"a.png": PNG, "m.csv": b"file_name,text\nb.png,two\n"},
        ["a.png"],
        {},
        ["entry whose picture is missing"],
    ),
    "pictures of names that cannot be": (
        {"a.png": PNG, "m.jsonl": b'{"image": "b\\u0000.png"}\n{"image": "\\ud800.png"}\n'},
        ["a.png"],
        {},
        ["entry whose picture is missing", "entry whose picture is missing"],
    ),
    "outside": (
        {"a.png": PNG, "m.csv": b"file_name,text\n../a.png,x\n"},
        ["a.png"],
        {},
        ["entry whose picture lies outside of the folder"],
    ),
    "two entries": (
        {"a.png": PNG, "m.csv": b"file_name,text\na.png,one\na.png,two\n"},
        ["a.png"],
        {"a.png": "one"},
        ["second entry for a picture"],
    ),
    "texts as JSON": (
        {
            "p.jsonl": b'{"caption": "one"}\n{"x": 1}\n[1]\n{"text": 3}\nno\n{"text": "\\ud800"}\n'
            + b"[" * 100_000
        },
        [],
        {"p.jsonl#0": "one"},
        ["entry not readable"] * 6 + [".jsonl without a picture"],
    ),
    "caption before text": (
        {"p.jsonl": b'{"text": "no", "caption": "yes"}'},
        [],
        {"p.jsonl#0": "yes"},
        [".jsonl without a picture"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_folders(tmp_path, name):
    files, ids, words, left_out = CASES[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert pictured(tmp_path) == ids
    assert texts(tmp_path) == words
    assert sorted(kind for kind, _ in find_rows(tmp_path).keep("picture").left_out) == sorted(left_out)


SAMPLES = [
    ("x/1.png", PNG),
    ("x/1.txt", b"one\n"),
    ("x/cat.v2.png", PNG),
    ("x/cat.json", b'{"Caption": "cat"}'),
    ("x/._1.png", b"mac"),
    ("x/3.cls", b"7"),
    ("x/4.PNG", PNG),
    ("x/4.txt", b"caf\xe9"),
    ("x/5.webp", PNG),
    ("x/5.png", PNG),
    ("x/5.json", b"[1]"),
    ("x/1.png", OTHER),
]


@pytest.mark.parametrize("name", ["a.tar", "A.TAR", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_shards_follow_webdatasets_rule_of_names(tmp_path, name):
    kind = {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(name.rpartition(".")[2], "")
    write_shard(tmp_path / name, SAMPLES, f"w:{kind}")
    listing, reader = find_rows(tmp_path).keep("picture"), Reader()
    assert [row.id for row in listing.rows] == [
        f"{name}#{key}" for key in ("x/1", "x/cat", "x/4", "x/5", "x/1 (2)")
    ]
    assert [row.text for row in listing.rows] == ["one", "cat", None, None, None]
    assert [reader.read(row) for row in listing.rows] == [PNG, PNG, PNG, PNG, OTHER]
    kinds = [kind for kind, _ in listing.left_out]
    assert kinds == [
        "text not readable",
        "further picture of a sample",
        "text not readable",
        "hidden or without an ending",
        f"{name[name.rindex('.') :]} without a picture",
    ]
    assert find_rows(tmp_path / name).rows == find_rows(tmp_path).rows


def test_a_member_without_an_ending_is_named_beside_one_with_it(tmp_path):
    write_shard(tmp_path / "a.tar", [("cat", b"?"), ("cat.png", PNG)])
    assert find_rows(tmp_path).left_out == [("hidden or without an ending", "a.tar#cat")]


def test_cells_without_a_picture_cost_no_second_pass(tmp_path, monkeypatch):
    """And of two columns of one name the first counts."""
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import table

    columns = [[None, PNG, None, PNG], list("abcd"), list("wxyz")]
    parquet.write_table(table(columns, names=["image", "text", "text"]), tmp_path / "a.parquet")
    rows, reader, opened = find_rows(tmp_path).rows, Reader(), []
    monkeypatch.setattr(
        "vd_core.datasets.read.read_table", lambda *given: opened.append(1) or read_table(*given)
    )
    for row in rows:
        with suppress(ValueError):
            assert reader.read(row) == PNG
    assert [row.text for row in rows] == list("abcd") and len(opened) == 1


def test_tables(tmp_path):
    cells = [
        {"bytes": PNG, "path": None},
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": b"no picture", "path": "a"},
    ]
    write_table(tmp_path / "a.parquet", {"Image": cells, "text": ["no"] * 3, "caption": ["a", None, "c"]})
    write_table(tmp_path / "b.parquet", {"x": [1]})
    listing, reader = find_rows(tmp_path), Reader()
    assert [(row.id, row.text) for row in listing.rows] == [
        (f"a.parquet#{n}", t) for n, t in enumerate(["a", None, "c"])
    ]
    assert "without a column image" in listing.summarize()
    assert read_picture(reader.read(listing.rows[0]), "a").size == (24, 16)
    assert (
        message(reader, listing.rows[1])
        == "a.parquet#1 cannot be read: its cell holds no bytes of a picture."
    )
    with pytest.raises(ValueError, match="a.parquet#2 cannot be read as a picture"):
        read_picture(reader.read(listing.rows[2]), listing.rows[2].id)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"c.parquet is no whole parquet file"):
        find_rows(tmp_path)


def test_tables_without_pyarrow_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="a.parquet needs pyarrow: pip install pyarrow"):
        find_rows(tmp_path)


def test_all_kinds_in_one_folder_are_used_and_subfolders_on_request(tmp_path):
    (tmp_path / "s").mkdir()
    for name in ("b.png", "s/a.png"):
        (tmp_path / name).write_bytes(PNG)
    write_shard(tmp_path / "a.tar", SAMPLES[:2])
    write_shard(tmp_path / "s" / "a.tar", SAMPLES[:2])
    write_table(tmp_path / "c.parquet", {"png": [PNG]})
    assert pictured(tmp_path) == ["a.tar#x/1", "b.png", "c.parquet#0"]
    assert pictured(tmp_path, recursive=True) == [
        "a.tar#x/1",
        "b.png",
        "c.parquet#0",
        "s/a.png",
        "s/a.tar#x/1",
    ]


def test_a_folder_may_be_named_in_a_roundabout_way(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.png").write_bytes(PNG)
    (tmp_path / "m.csv").write_text("file_name,text\ns/a.png,one\n")
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "s" / "..", tmp_path / "link"):
        assert texts(folder) == texts(folder, recursive=True) == {"s/a.png": "one"}
        assert texts(folder / "m.csv") == {"s/a.png": "one"}


def test_names_that_cannot_be_printed_are_escaped(tmp_path):
    for name in (b"\xff.png", b"a\nb.png", "\u202egnp.png".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(PNG)
    assert set(pictured(tmp_path)) == {"\\udcff.png", "a\\nb.png", "\\u202egnp.png"}


def test_rows_travel_as_json(tmp_path):
    write_shard(tmp_path / "a.tar", SAMPLES[:2])
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(PNG)
    rows = find_rows(tmp_path).rows
    again = [Row(*row) for row in json.loads(json.dumps(rows))]
    assert [Reader().read(row) for row in again] == [PNG, PNG] and [row.id for row in again] == [
        row.id for row in rows
    ]


def test_fingerprints_are_of_contents_and_not_of_names(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("one")
    before = list(hash_rows(find_rows(tmp_path).rows))
    for ending in ("png", "txt"):
        (tmp_path / f"a.{ending}").rename(tmp_path / f"b.{ending}")
    assert list(hash_rows(find_rows(tmp_path).rows)) == before
    (tmp_path / "b.txt").write_text("two")
    other_text = list(hash_rows(find_rows(tmp_path).rows))
    (tmp_path / "b.png").write_bytes(OTHER)
    assert len({*before, *other_text, *hash_rows(find_rows(tmp_path).rows)}) == 3


def test_names_of_columns_are_in_one_table():
    assert names.find_first(names.TEXT_NAMES, ["Text", "CAPTION "]) == "CAPTION "
    assert names.find_first(names.TEXT_NAMES, ["x"]) is None
