"""`vd_core.files`: complete files or none, names given once, nothing outside the named folder."""

import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vd_core import files
from vd_core.files import (
    check_writable,
    leads_out,
    open_to_append,
    resolve_inside,
    save_numbered,
    shorten_name,
    write_whole,
)

ROOT = Path(__file__).resolve().parents[2]


def write(path, content=b"new"):
    with write_whole(path) as file:
        file.write(content)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


# Whole files


def test_a_file_appears_when_it_is_complete(tmp_path):
    with write_whole(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new" and left(tmp_path) == ["a"]


def test_a_file_is_kept_where_its_successor_fails(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyError), write_whole(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "a").read_bytes() == b"old" and left(tmp_path) == ["a"]


def test_who_could_read_a_file_can_read_its_successor(tmp_path):
    (tmp_path / "a").touch(mode=0o600)
    write(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def targets(folder):
    """Return what is never replaced: a folder of each kind that an ordinary user can make."""
    (folder / "aim").write_text("kept")
    (folder / "a symbolic link").symlink_to(folder / "aim")
    os.mkfifo(folder / "a pipe")
    (folder / "a folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "a socket"))
    return ["a symbolic link", "a pipe", "a folder", "a socket"]


def test_what_is_no_file_is_never_replaced(tmp_path):
    for name in targets(tmp_path):
        before = (tmp_path / name).lstat()
        for action in (write, open_to_append):
            with pytest.raises(
                OSError, match=f"^{re.escape(str(tmp_path / name))} is {name}, which is never replaced: "
            ):
                action(tmp_path / name)
        assert (tmp_path / name).lstat() == before
    assert (tmp_path / "aim").read_text() == "kept"


def test_devices_are_never_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "lstat", lambda path: os.lstat(os.devnull))  # never on a real one
    with pytest.raises(OSError, match="is a device, which is never replaced"):
        write(tmp_path / "null")
    assert not left(tmp_path)


def test_read_only_files_are_never_replaced(tmp_path):
    (tmp_path / "a").write_text("kept")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(PermissionError, match="a is read-only: make it writable, or choose another name.$"):
        write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "kept" and left(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_is_no_file_name(name):
    with pytest.raises(
        OSError, match=r"^\. is a folder, which is never replaced: choose the name of a file.$"
    ):
        write(name)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^There is no folder .*none to write a into.$"):
        write(tmp_path / "none" / "a")


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(OSError, match="cannot be written: File name too long; make room"):
        write(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", ["a\ud800", "a\0b"])
@pytest.mark.parametrize(
    "action",
    [
        write,
        open_to_append,
        files.make_folder,
        lambda path: check_writable(path, "--output"),
        lambda path: save_numbered(path, "a", ".txt", lambda file: file.write(b"x")),
        lambda path: files.move_whole(Path(os.devnull), path),
    ],
)
def test_what_no_file_can_be_called_is_one_sentence(tmp_path, name, action):
    said = r"a\\(ud800|x00b)' is no name that a file can have: choose another one\.$"
    with pytest.raises(OSError, match=said):
        action(tmp_path / name)
    assert not left(tmp_path)


def test_a_link_that_waits_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("kept")
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "guessed")
    (tmp_path / ".vd_guessed.part").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="a cannot be written: File exists"):
        write(tmp_path / "a")
    assert (tmp_path / "victim").read_text() == "kept"


# Killed writers


HOLD = """
import sys
from pathlib import Path
from vd_core.files import write_whole
with write_whole(Path(sys.argv[1])) as file:
    file.write(b"x" * 100)
    file.flush()
    print("ready", flush=True)
    sys.exit(sys.stdin.read())  # in the middle
"""


def test_what_a_killed_writer_left_is_removed_and_what_another_uses_is_not(tmp_path):
    def start():
        writer = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path / "a"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert writer.stdout.readline() == b"ready\n"
        return writer

    with start() as first, start() as second:
        assert len(left(tmp_path)) == 2
        first.kill()
        first.wait()
        write(tmp_path / "b")
        assert len(left(tmp_path)) == 2, "b, and what the second one writes"
        second.communicate()
    assert left(tmp_path) == ["b"]


def test_a_pipe_under_a_temporary_name_stops_nobody(tmp_path):
    os.mkfifo(tmp_path / ".vd_0123.part")
    write(tmp_path / "a")
    assert "a" in left(tmp_path)


# Numbered names


def test_numbers_go_on_from_the_highest(tmp_path):
    assert save_numbered(tmp_path / "new", "a", "_.png", lambda file: file.write(b"1")).name == "a_00001_.png"
    (tmp_path / "new" / "a_00041_.png").mkdir()
    (tmp_path / "new" / "ab_00099_.png").touch()
    path = save_numbered(tmp_path / "new", "a", "_.png", lambda file: file.write(b"2"))
    assert path == tmp_path / "new" / "a_00042_.png" and path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(
        (tmp_path / "new" / "ab_00099_.png").stat().st_mode
    )


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "a_00001.txt").write_text("theirs")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "listdir", lambda folder: [])
        assert save_numbered(tmp_path, "a", ".txt", lambda file: file.write(b"ours")).name == "a_00002.txt"
    assert (tmp_path / "a_00001.txt").read_text() == "theirs" and left(tmp_path) == [
        "a_00001.txt",
        "a_00002.txt",
    ]


def test_file_systems_without_links_lose_nothing_either(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(files.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    names = [
        save_numbered(tmp_path, "a", ".txt", lambda file, n=n: file.write(b"%d" % n)).name for n in (1, 2)
    ]
    assert names == left(tmp_path) == ["a_00001.txt", "a_00002.txt"]
    assert [(tmp_path / name).read_text() for name in names] == ["1", "2"]


SAVE = """
import sys
from pathlib import Path
from vd_core.files import save_numbered
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    content = f"{sys.argv[3]} {number}".encode()
    print(save_numbered(Path(sys.argv[1]), "art", "_.png", lambda file: file.write(content)))
"""


@pytest.mark.parametrize(("processes", "each"), [(2, 100), (12, 3)])
def test_processes_at_once_lose_nothing(tmp_path, processes, each):
    """Two processes with 100 files each left 162 of 200 once; 12 runs at once likewise."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE, tmp_path, str(each), str(n)],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for n in range(processes)
    ]  # fmt: skip
    for writer in writers:  # all start together
        writer.stdin.write("go\n")
        writer.stdin.flush()
    printed = [path for writer in writers for path in writer.communicate(timeout=120)[0].split()]
    assert len(set(printed)) == processes * each and all(Path(path).is_file() for path in printed)
    contents = {path.read_text() for path in tmp_path.iterdir()}
    assert contents == {f"{n} {number}" for n in range(processes) for number in range(each)}


# Places


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../x",
        "/x",
        "//x",
        "C:\\x",
        "c:x",
        "..\\x",
        "\\x",
        "CON",
        "nul.txt",
        "a/COM1",
        "COM¹",
        "CONIN$",
        "conout$.x",
        "lpt9 ",
    ],
)
def test_names_that_lead_out(name, tmp_path):
    assert leads_out(name)
    with pytest.raises(ValueError, match="^The name .* leaves the output folder; use a plain name"):
        resolve_inside(tmp_path, name, "The name")


@pytest.mark.parametrize("name", ["x", "a/b", "a\\b", "console", "com10", "…", "-x", "a b", "12:30"])
def test_plain_names(name, tmp_path):
    assert not leads_out(name)
    *folders, last = re.split(r"[/\\]", name)
    assert resolve_inside(tmp_path, name, "The name") == (tmp_path.joinpath(*folders), last)


def test_links_that_lead_out_are_refused_and_others_followed(tmp_path):
    (out := tmp_path / "out").mkdir()
    (out / "link").symlink_to(tmp_path)
    (out / "inner").mkdir()
    (out / "alias").symlink_to("inner")
    (out / "circle").symlink_to("circle")
    (out / "file").symlink_to(tmp_path / "elsewhere")
    for name in ("link/x", "link/sub/x", "circle/x"):
        with pytest.raises(ValueError, match="The name .* link"):
            resolve_inside(out, name, "The name")
    assert resolve_inside(out, "alias/x", "The name") == (out / "inner", "x")
    # numbers follow; the link itself is never opened
    assert resolve_inside(out, "file", "The name") == (
        out,
        "file",
    )


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\x1b[2J", "a\x7f", "\ud800"])
def test_names_that_no_file_should_have(name, tmp_path):
    with pytest.raises(ValueError, match="holds characters that no file name should have") as raised:
        resolve_inside(tmp_path, name, "The name")
    assert "\x1b" not in str(raised.value) and "\n" not in str(raised.value)


def test_names_are_measured_in_bytes(tmp_path):
    with pytest.raises(ValueError, match="is too long for the name of a file"):
        resolve_inside(tmp_path, "画" * 100, "The name")
    short = shorten_name("画" * 100)
    assert len(short.encode()) <= files.LONGEST and set(short) == {"画"}


def test_a_folder_is_tried_before_work_and_not_made(tmp_path):
    check_writable(tmp_path / "new" / "one", "--output")
    assert not left(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError,
        match="Nothing can be written into .*file/x: Not a directory; choose another folder with --output.",
    ):
        check_writable(tmp_path / "file" / "x", "--output")


def test_logs_are_written_line_by_line(tmp_path):
    with open_to_append(tmp_path / "log") as log:
        log.write("one\n")
        assert (tmp_path / "log").read_text() == "one\n"


def test_writing_takes_no_torch():
    said = "import sys, vd_core.files; print('torch' in sys.modules)"
    started = time.monotonic()
    assert (
        subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True).stdout
        == "False\n"
    )
    assert time.monotonic() - started < 10


def test_what_was_fetched_is_moved_as_a_whole(tmp_path):
    (tmp_path / "part").write_text("fetched")
    (tmp_path / "link").symlink_to("part")
    with pytest.raises(OSError, match="link is a symbolic link, which is never replaced"):
        files.move_whole(tmp_path / "part", tmp_path / "link")
    files.move_whole(tmp_path / "part", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "fetched" and left(tmp_path) == ["a", "link"]
