"""A ComfyUI that is older than those that the pack is tested with: one sentence, in the log or at the
import."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORT = "import folder_paths; from runner.pack import load_pack; load_pack()"
VERSIONS = """
import importlib.util, sys, types
version = sys.modules["comfyui_version"] = types.ModuleType("comfyui_version")
spec = importlib.util.spec_from_file_location("version", "nodes/host/comfyui/version.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for version.__version__ in ("0.3.60", "0.3.64", "0.8.2", "0.33.0", "0.4.0rc1"):
    module.warn_of_old_core()
"""


def run(code, path):
    """Return a Python of its own, with made-up modules in front."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{path}:{ROOT}", "PATH": ""},
    )


def test_a_core_that_lacks_something_is_refused_with_one_sentence(tmp_path):
    (tmp_path / "folder_paths.py").write_text("")
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.2.2"\n')
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "__init__.py").write_text("model_management = None\n")
    (tmp_path / "comfy" / "clip_model.py").write_text("")
    last = run(IMPORT, tmp_path).stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ImportError: Versatile Diffusion needs ComfyUI 0.3.64 or later, this is 0.2.2: update ComfyUI (No "
        "module named"
    )


def test_an_older_core_that_has_all_is_named_in_the_log():
    done = run(VERSIONS, ROOT)
    assert done.returncode == 0, done.stderr
    warned = re.findall(
        r"tested with ComfyUI 0\.3\.64 and later, this is ([^:]+): update", done.stdout + done.stderr
    )
    assert warned == ["0.3.60"]


def test_the_registry_is_told_the_same():
    sources = [
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("pyproject.toml", "nodes/host/comfyui/version.py")
    ]
    assert (
        re.search(r'requires-comfyui = ">=([^"]+)"', sources[0])[1]
        == re.search(r'OLDEST_TESTED = "([^"]+)"', sources[1])[1]
    )
