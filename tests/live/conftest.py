"""A real ComfyUI for the live tests: a server, started once, and scripts that run with its modules.

Each is a process of its own with a temporary base directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from real_server import started

from runner import launcher
from runner.pack import ROOT

HERE = Path(__file__).parent
NO_CHECKOUT = "COMFYUI_PATH names no ComfyUI checkout"


def pytest_terminal_summary(terminalreporter):
    """Says once why the live tests were skipped."""
    if not os.environ.get("COMFYUI_PATH"):
        terminalreporter.write_line(f"live tests skipped: {NO_CHECKOUT}")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The ComfyUI checkout."""
    if not os.environ.get("COMFYUI_PATH"):
        pytest.skip(NO_CHECKOUT)
    return Path(os.environ["COMFYUI_PATH"]).resolve()


@pytest.fixture(scope="session")
def inside(checkout, tmp_path_factory):
    """Runs a script of this folder with ComfyUI's modules, on the CPU, with more arguments -> (the JSON it
    printed last, its stderr)."""
    # the checkout first: it has a module `nodes` as the pack has
    path = os.pathsep.join(map(str, (checkout, ROOT, ROOT / "tests")))

    def run(script: str, *arguments: str) -> tuple[dict, str]:
        base = tmp_path_factory.mktemp("comfyui")
        done = subprocess.run(
            [
                launcher.find_python(checkout),
                str(HERE / script),
                *arguments,
                "--cpu",
                "--base-directory",
                str(base),
            ],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    return run


@pytest.fixture(scope="session")
def server(checkout, tmp_path_factory):
    """The server, with this pack and the nodes of the tests; $VD_DYNAMIC_VRAM=1: one that believes in dynamic
    VRAM."""
    packs = ["vd_live_nodes", *(["vd_dynamic_vram"] if os.environ.get("VD_DYNAMIC_VRAM") else [])]
    with started(checkout, tmp_path_factory.mktemp("comfyui"), packs) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> None:
    """Skips a test that needs the browser without one."""
    folder = os.environ.get("PLAYWRIGHT", os.path.expanduser("~/.cache/comfy-playwright"))
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not (
        shutil.which("node")
        and Path(folder, "node_modules", "playwright-core").is_dir()
        and Path(chromium).exists()
    ):
        pytest.skip("the page needs node, playwright-core in $PLAYWRIGHT and Chromium in $CHROMIUM")
    os.environ.setdefault("PLAYWRIGHT", folder)
