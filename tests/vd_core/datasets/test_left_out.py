"""What data sets hold and is not used: it is counted and named by kind."""

import io
import os
import tarfile

import pytest
from data_sets import PNG, pictured, texts, write_shard

from vd_core.datasets.find import find_rows


def kinds(source, recursive=False):
    return [kind for kind, _ in find_rows(source, recursive).left_out]


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("one\ntwo\n")
    (tmp_path / "._x.png").write_bytes(b"")
    (tmp_path / "x.png").write_bytes(PNG)
    summary = find_rows(tmp_path).keep("picture").summarize()
    assert summary == "4 left out: 3 .txt without a picture, 1 hidden"
    assert find_rows(tmp_path / "x.png").summarize() == ""


@pytest.mark.parametrize("name", ["link.png", "link.txt", "link.tar", "link.parquet"])
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").write_bytes(PNG)
    (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{name} is a link that leads out of"):
        find_rows(tmp_path / "in")
    (tmp_path / "in" / name).unlink()
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
    assert pictured(tmp_path / "in") == ["a.png", "b.png"]


def test_links_in_shards_are_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(PNG)
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.png")
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            shard.addfile(member)
    listing = find_rows(tmp_path / "a.tar")
    assert listing.rows == [] and [kind for kind, _ in listing.left_out] == 4 * ["link, or no plain file"]


def test_links_to_folders_and_to_nothing_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.png").write_bytes(PNG)
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    (tmp_path / "in" / "nothing.png").symlink_to("no.png")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert pictured(tmp_path / "in") == ["a.png"]
    assert kinds(tmp_path / "in", recursive=True) == 3 * ["link to a folder or to nothing, or no file"]


@pytest.mark.parametrize("between", ["1.json", "latest", "._1.txt"])
def test_what_is_left_out_tears_no_sample_apart(tmp_path, between):
    """Links, and what a Mac puts beside each file."""
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, content in (("1.png", PNG), (between, b""), ("1.txt", b"cat")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name == between and not name.startswith("."):
                member.type, member.linkname = tarfile.SYMTYPE, "x"
            shard.addfile(member, io.BytesIO(content))
    listing = find_rows(tmp_path)
    assert [(row.id, row.text, row.at) for row in listing.rows] == [("a.tar#1", "cat", 0)]
    assert [name for _, name in listing.left_out] == [f"a.tar#{between}"]


def test_a_plain_shard_may_begin_with_a_name_like_that_of_a_compressed_one(tmp_path):
    write_shard(tmp_path / "a.tar", [("BZh91AY.txt", b"text")])
    assert texts(tmp_path) == {"a.tar#BZh91AY": "text"}


def test_a_text_with_a_comma_and_no_quotes_is_not_cut(tmp_path):
    """Spare separators at the end of a line are no cells, and a column of numbers may lack a name."""
    lines = ["id,text", "0,a cat, sitting", "1,rocket", "2,owl,, ", '3,"a dog, sitting"']
    (tmp_path / "p.csv").write_text("\n".join(lines))
    assert texts(tmp_path) == {"p.csv#2": "rocket", "p.csv#3": "owl", "p.csv#4": "a dog, sitting"}
    assert find_rows(tmp_path).left_out == [("entry not readable", "p.csv#1")]
    (tmp_path / "p.csv").write_text(",text\n0,cat\n1,dog\n")
    assert list(texts(tmp_path).values()) == ["cat", "dog"]
    (tmp_path / "p.csv").write_text('text\na cat, sitting\n"a dog; or, two"\n')
    assert list(texts(tmp_path).values()) == ["a cat, sitting", "a dog; or, two"]


def test_of_a_text_beside_a_picture_and_one_in_a_list_the_second_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "captions.csv").write_text("file_name,caption\na.png,new\n")
    assert texts(tmp_path) == {"a.png": "old"}
    assert find_rows(tmp_path).left_out == [("second text of a picture", "a.png: a list")]
