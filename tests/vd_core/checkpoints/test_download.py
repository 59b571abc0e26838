"""Downloads from a hub on loopback: whole, stopped and gone on, of a wrong size, and refused."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vd_core.__main__ import main
from vd_core.checkpoints import download as downloads
from vd_core.checkpoints.download import (
    download,
    leave_out_doubles,
    list_single_files,
    plan_pipeline,
    plan_single_files,
)
from vd_core.choices import REPOSITORY

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """What the client of a hub asks for, with files in memory. `cut`: bytes after which a connection breaks,
    once.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Answers)
        self.files, self.cut, self.ranges, self.claimed = files, {}, [], {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    """GET and HEAD of files and of the list of a repository's files."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        files = self.server.files
        if self.path.startswith("/api/models/"):
            name = "/".join(self.path.partition("?")[0].split("/")[3:5])
            held = {file: data for (repository, file), data in files.items() if repository == name}
            sizes = {file: self.server.claimed.get(file, len(data)) for file, data in held.items()}
            siblings = [{"rfilename": file, "size": size, "blobId": "0"} for file, size in sizes.items()]
            text = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
            return self.answer(200 if held else 404, text, {}, body)
        name, _, file = self.path.lstrip("/").partition("/resolve/")
        data = files.get((name, file.partition("/")[2]))
        if data is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        start = 0
        if asked := self.headers.get("Range"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if body:
                self.server.ranges.append((file.partition("/")[2], start))
        etag = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.answer(
            206 if start else 200,
            data[start:],
            headers,
            body,
            self.server.cut.pop(file.partition("/")[2], 0) if body else 0,
        )

    def answer(self, status, data, headers, body, cut=0):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:cut] if cut else data)
            if cut:
                self.wfile.flush()
                self.connection.close()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    files = {
        (repository, file): f"{repository} {file} ".encode() * 3000
        for repository, file, _ in list_single_files("float16")
    }
    pipeline = [
        "model_index.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "README.md",
    ]
    files |= {(REPOSITORY, file): file.encode() * 100 for file in pipeline}
    server = Hub(files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what is written at once
    yield server
    server.shutdown()


def test_single_files_come_whole_and_once(hub, tmp_path):
    wanted = plan_single_files(endpoint=hub.url)
    paths = download(wanted, tmp_path / "models", hub.url)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(
        file.name for file in wanted
    )
    assert all(
        path.read_bytes() == hub.files[file.repository, file.file]
        for path, file in zip(paths, wanted, strict=True)
    )
    lines = []
    download(wanted, tmp_path / "models", hub.url, lines.append)
    assert len(lines) == len(wanted) and all(line.endswith("there already") for line in lines)


def test_a_stopped_download_goes_on(hub, tmp_path, capsys):
    name = "pretrained_pth/optimus-vae.pth"
    hub.cut = {name: 70000}
    whole = hub.files[REPOSITORY, name]
    for _ in range(3):  # the client may try again by itself
        code = main(["download", "--to", str(tmp_path), "--endpoint", hub.url])
        if code == 0:
            break
        assert "the same command goes on where it stopped" in capsys.readouterr().err
        assert not (tmp_path / "optimus-vae.pth").exists()
    assert code == 0 and (tmp_path / "optimus-vae.pth").read_bytes() == whole
    assert [start for file, start in hub.ranges if file == name and start > 0]
    assert not (tmp_path / ".download").exists()


def test_a_file_of_another_size_is_refused(hub, tmp_path):
    hub.claimed["pretrained_pth/kl-f8.pth"] = 5
    with pytest.raises(OSError, match=r"kl-f8.pth has [\d,]+ bytes where 5 are published: delete it"):
        download(plan_single_files(endpoint=hub.url), tmp_path, hub.url)
    assert not (tmp_path / "kl-f8.pth").exists()


def test_a_file_of_the_same_name_is_kept(hub, tmp_path, capsys):
    (tmp_path / "kl-f8.pth").write_bytes(b"my own")
    assert main(["download", "--to", str(tmp_path), "--endpoint", hub.url]) == 1
    assert "kl-f8.pth: move them away" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"my own"]


def test_a_repository_without_a_pipeline_is_refused(hub, capsys):
    hub.files["a/b", "README.md"] = b"other things"
    assert main(["download", "--repository", "a/b", "--endpoint", hub.url]) == 1
    assert "a/b holds no pipeline of Versatile Diffusion" in capsys.readouterr().err


def test_the_pipeline_is_listed_without_doubles(hub, capsys):
    files = [file.file for file in plan_pipeline(endpoint=hub.url)]
    assert files == ["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    assert main(["download", "--dry-run", "--endpoint", hub.url]) == 0
    assert "3 files, 7,000 bytes" in capsys.readouterr().out
    assert leave_out_doubles(["vae/a.fp16.bin"]) == ["vae/a.fp16.bin"]


def test_no_network_and_unknown_files_end_in_a_sentence(hub, tmp_path, capsys):
    closed = "http://127.0.0.1:9"
    assert main(["download", "--endpoint", closed]) == 1
    assert f"cannot be fetched from {closed}" in capsys.readouterr().err
    del hub.files[REPOSITORY, "pretrained_pth/kl-f8.pth"]
    with pytest.raises(
        OSError, match="The hub no longer has shi-labs/versatile-diffusion/pretrained_pth/kl-f8.pth"
    ):
        plan_single_files(endpoint=hub.url)
    monkey = [downloads.Remote("a/b", "c", 1 << 60, "c")]
    with pytest.raises(OSError, match="make room, or choose another folder"):
        download(monkey, tmp_path)
