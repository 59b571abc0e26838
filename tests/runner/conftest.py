"""The runner with made-up nodes in place of the pack, and with a made-up server."""

import json
import types

import pytest
from fake_comfyui import painting
from made_up_nodes import CLASSES, Paint

from runner import in_process, server, websocket
from runner.command import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a graph through `main` with the made-up classes -> (exit status, stdout, stderr)."""
    monkeypatch.setattr(in_process, "load_pack", lambda: types.SimpleNamespace(NODE_CLASS_MAPPINGS=CLASSES))
    monkeypatch.chdir(tmp_path)
    Paint.calls.clear()

    def go(data, *options):
        file = tmp_path / "flow.json"
        file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        status = main([str(file), *options])
        out, err = capsys.readouterr()
        return status, out, err

    return go


@pytest.fixture
def refused(run):
    """Run a graph that must be refused before any node runs -> the one sentence."""

    def go(data, *options):
        status, out, err = run(data, *options)
        assert (status, out, Paint.calls) == (2, "", [])
        assert err.count("\n") == 1 and "Traceback" not in err
        return err.strip()

    return go


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Do not wait long for news, and works in a folder of its own."""
    monkeypatch.setattr(server, "TICK", 0.3)
    monkeypatch.setattr(websocket, "POLL", 0.02)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def queue(tmp_path, capsys):
    """Run a workflow on a server -> (exit status, stdout, stderr without progress bars)."""

    def go(fake, flow=None, *options):
        (tmp_path / "flow.json").write_text(json.dumps(flow or painting()), encoding="utf-8")
        status = main(["flow.json", "--server", getattr(fake, "url", fake), *options])
        out, err = capsys.readouterr()
        return status, out, "\n".join(line.split("\r")[-1] for line in err.rstrip().split("\n"))

    return go


@pytest.fixture
def queue_refused(queue):
    """Run a workflow that must fail -> the last line of stderr."""

    def go(*arguments):
        status, _, err = queue(*arguments)
        assert status in (2, 3, 4) and "Traceback" not in err
        return err.splitlines()[-1]

    return go
