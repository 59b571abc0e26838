"""`run_workflow.py --comfyui`, on a made-up checkout."""

import json
import os
import sys
from pathlib import Path

import pytest

from runner import launcher
from runner.command import main
from runner.errors import WorkflowError

MAIN = """
import http.server, json, os, pathlib, sys
started = {"argv": sys.argv, "pid": os.getpid(), "file": __file__, "path": sys.path[0]}
pathlib.Path("started.json").write_text(json.dumps(started))
if "--die" in sys.argv:
    sys.exit("one\\n\\nlast words")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a checkout whose main.py is a server that answers, run by this Python."""
    folder = tmp_path / "ComfyUI"
    for name in ("custom_nodes", "output"):
        (folder / name).mkdir(parents=True)
    (folder / "main.py").write_text(MAIN)
    (folder / "folder_paths.py").write_text("")
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    monkeypatch.setenv("COMFYUI_ARGS", "")
    return folder


@pytest.fixture
def pack(tmp_path):
    (tmp_path / "pack").mkdir()
    return tmp_path / "pack"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def started(checkout):
    return json.loads((checkout / "started.json").read_text())


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_as_its_owner_would_start_it_and_stops(checkout, pack, folder):
    with launcher.launch(checkout, pack, folder, ["--cpu"]) as server:
        server.greet()
        said = started(checkout)
        assert runs(said["pid"])
    assert not runs(said["pid"])
    assert said["file"] == str(checkout / "main.py") and said["path"] == str(checkout)
    options = said["argv"][1:]
    assert "--cpu" in options and options[options.index("--output-directory") + 1] == str(folder / "output")
    assert "--base-directory" not in options  # models, input pictures, settings and packs are its own


def test_the_pack_is_brought_in(checkout, pack, folder):
    with launcher.launch(checkout, pack, folder):
        pass
    options = started(checkout)["argv"]
    paths = json.loads(Path(options[options.index("--extra-model-paths-config") + 1]).read_text())
    (link,) = Path(paths["pack"]["custom_nodes"]).iterdir()
    assert link.name == "pack" and link.resolve() == pack
    assert paths["saved"]["checkpoints"] == str(checkout / "output" / "checkpoints")


def test_an_installed_pack_is_not_brought_in_twice(checkout, pack, folder):
    (checkout / "custom_nodes" / "mine").symlink_to(pack)
    with launcher.launch(checkout, pack, folder):
        assert not list((folder / "custom_nodes").iterdir())


def test_it_stops_when_something_fails(checkout, pack, folder):
    with pytest.raises(KeyboardInterrupt), launcher.launch(checkout, pack, folder):
        raise KeyboardInterrupt
    assert not runs(started(checkout)["pid"])


def test_one_that_dies_shows_the_end_of_its_log(checkout, pack, folder, capsys):
    with (
        pytest.raises(WorkflowError, match="^ComfyUI ended with status 1; the end of its log is above.$"),
        launcher.launch(checkout, pack, folder, ["--die"]),
    ):
        pass
    assert capsys.readouterr().err.endswith("one\nlast words\n")


def test_one_that_never_answers_is_given_up(checkout, pack, folder, monkeypatch):
    monkeypatch.setattr(launcher, "PATIENCE", 0.5)
    (checkout / "main.py").write_text("import time; time.sleep(60)")
    with (
        pytest.raises(WorkflowError, match="did not answer for 0.5 seconds"),
        launcher.launch(checkout, pack, folder),
    ):
        pass


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    (tmp_path / "flow.json").write_text("{}")
    assert main([str(tmp_path / "flow.json"), "--comfyui", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"{tmp_path} is not a ComfyUI checkout: it has no main.py and folder_paths.py.\n"
    )


def test_its_python(checkout, monkeypatch, tmp_path):
    assert launcher.find_python(checkout) == sys.executable
    for name in (".venv", "venv"):  # from the last choice to the first
        (checkout / name / "bin").mkdir(parents=True)
        (checkout / name / "bin" / "python").touch()
        assert launcher.find_python(checkout) == str(checkout / name / "bin" / "python")
    monkeypatch.setenv("COMFYUI_PYTHON", "mine")
    assert launcher.find_python(checkout) == "mine"  # found in PATH
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    assert launcher.find_python(checkout) == str(tmp_path / "mine")  # it will be started elsewhere


@pytest.mark.parametrize(("answer", "arguments"), [("True", []), ("False", ["--cpu"])])
def test_cpu_is_chosen_where_there_is_no_gpu(checkout, monkeypatch, answer, arguments):
    monkeypatch.setattr(launcher, "HAS_GPU", f"print({answer})")
    monkeypatch.delenv("COMFYUI_ARGS")
    assert launcher.read_arguments(checkout) == arguments
    monkeypatch.setenv("COMFYUI_ARGS", "--lowvram --base-directory '/a b'")
    assert launcher.read_arguments(checkout) == ["--lowvram", "--base-directory", "/a b"]


def test_a_python_without_torch_is_refused(checkout, monkeypatch):
    monkeypatch.delenv("COMFYUI_ARGS")
    monkeypatch.setattr(launcher, "HAS_GPU", "import no_such_module")
    with pytest.raises(
        WorkflowError, match="has no torch .*no_such_module.*: name ComfyUI's Python in COMFYUI_PYTHON"
    ):
        launcher.read_arguments(checkout)
    monkeypatch.setenv("COMFYUI_PYTHON", "/nowhere/python")
    with pytest.raises(WorkflowError, match="/nowhere/python cannot be started"):
        launcher.read_arguments(checkout)
