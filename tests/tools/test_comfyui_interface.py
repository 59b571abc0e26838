"""What the pack relies on in ComfyUI, checked against source: a made-up core says what it lacks."""

import pytest

from tools.comfyui_interface import ATTRIBUTES, OPTIONAL, main, report

CORE = """
from comfy.base import Model

class Patcher(Model):
    def __init__(self, model, *, device=None):
        self.model = model
        self.register_buffer("sigmas", model)

def load(path, safe=True):
    return Patcher(path)
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    """(checkout, adapter): a core of two modules, and an adapter that uses them rightly."""
    checkout, adapter = tmp_path / "core", tmp_path / "adapter"
    (checkout / "comfy").mkdir(parents=True)
    adapter.mkdir()
    (checkout / "folder_paths.py").write_text("")
    (checkout / "comfy" / "base.py").write_text("class Model:\n    def clone(self): ...\n")
    (checkout / "comfy" / "loader.py").write_text(CORE)
    (adapter / "files.py").write_text(
        "from comfy import loader\nfrom comfy.loader import Patcher\nPatcher(1, device=2)\nloader.load('x', "
        "safe=False)\n"
    )
    monkeypatch.setitem(ATTRIBUTES, "comfy.loader.Patcher", ("clone", "model", "sigmas"))
    for name in [name for name in ATTRIBUTES if name != "comfy.loader.Patcher"]:
        monkeypatch.delitem(ATTRIBUTES, name)
    for name in list(OPTIONAL):
        monkeypatch.delitem(OPTIONAL, name)
    monkeypatch.setitem(OPTIONAL, "comfy.loader.Patcher", ("is_dynamic",))
    return checkout, adapter


def states(files):
    """{name: (state, note)}."""
    return {name: (state, note) for state, name, note in report(*files)}


def test_what_is_there_is_listed_with_its_signature(files):
    found = states(files)
    assert found["comfy.loader.load"] == ("ok", "(path, safe=True)")
    assert found["comfy.loader.Patcher"] == ("ok", "(self, model, *, device=None)")
    assert found["comfy.loader.Patcher.is_dynamic"] == ("optional", "not there")
    # inherited, set, a buffer
    assert {found[f"comfy.loader.Patcher.{name}"][0] for name in ("clone", "model", "sigmas")} == {"ok"}


@pytest.mark.parametrize(
    ("before", "after", "name", "note"),
    [
        ("def load(", "def load_file(", "comfy.loader.load", "is not there (files.py:4)"),
        ("safe=True", "weights_only=True", "comfy.loader.load", "does not take safe (files.py:4)"),
        (
            "self, model, *, device",
            "self, *, device",
            "comfy.loader.Patcher",
            "takes 0 arguments, 1 are given (files.py:3)",
        ),
        ("self.model = model", "self.network = model", "comfy.loader.Patcher.model", "is not there"),
        ("(Model)", "", "comfy.loader.Patcher.clone", "is not there"),
    ],
)
def test_what_changed_is_named(files, before, after, name, note):
    path = files[0] / "comfy" / "loader.py"
    assert before in CORE
    path.write_text(CORE.replace(before, after))
    assert states(files)[name] == ("MISSING", note)


def test_a_folder_that_is_no_checkout_is_refused_with_a_sentence(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "is not a ComfyUI checkout: it has no folder_paths.py." in capsys.readouterr().err
