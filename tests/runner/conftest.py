"""The runner with made-up nodes in place of the pack."""

import json
import types

import pytest
from made_up_nodes import CLASSES, Paint

from runner import in_process
from runner.command import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a graph through `main` with the made-up classes -> (exit status, stdout, stderr)."""
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
    """Runs a graph that must be refused before any node runs -> the one sentence."""

    def go(data, *options):
        status, out, err = run(data, *options)
        assert (status, out, Paint.calls) == (2, "", [])
        assert err.count("\n") == 1 and "Traceback" not in err
        return err.strip()

    return go
