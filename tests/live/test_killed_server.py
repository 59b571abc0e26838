"""A whole ComfyUI that is killed in the middle of `run_workflow.py` jobs and started again: every job ends
with what it always gives.

VD_KILLS=20 python -m pytest tests/live/test_killed_server.py -rP
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from assets import write_assets
from graph import (
    APPLE,
    DUAL,
    IMAGE,
    ROCKET,
    STAR,
    TEXT,
    Node,
    empty,
    empty_text,
    ksampler,
    node,
    prompt_of,
    sentence,
)
from PIL import Image

from runner import launcher
from runner.pack import ROOT
from runner.server import Server

pytestmark = pytest.mark.comfyui

KILLS = int(os.environ.get("VD_KILLS", "2"))


class Killable:
    """A ComfyUI on a port of its own that can be killed and started again."""

    def __init__(self, checkout: Path, base: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url, port = f"http://127.0.0.1:{free.getsockname()[1]}", str(free.getsockname()[1])
        own = launcher.write_arguments(checkout, ROOT, base) + launcher.read_arguments(checkout)
        more = ["--base-directory", str(base), "--disable-api-nodes", "--disable-auto-launch", "--port", port]
        self.command, self.checkout, self.log = (
            [launcher.find_python(checkout), "main.py", *own, *more],
            checkout,
            base / "server.log",
        )

    def start(self) -> None:
        """Starts it; it may take a while until it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.checkout, env=environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def killable(checkout, tmp_path):
    """The server, and the file of a workflow that it can run."""
    base = tmp_path / "comfyui"
    for name in ("models", "input", "user"):
        (base / name).mkdir(parents=True)
    write_assets(base / "models", base / "input")
    server = Killable(checkout, base)
    server.start()
    launcher.wait_for(Server(server.url), server.process, server.log)
    yield server
    server.kill()


def saved(latent: Node, name: str) -> Node:
    """Pictures in the output folder."""
    return node("SaveImage", images=node("VAEDecode", samples=latent, vae=IMAGE[1]), filename_prefix=name)


WORKFLOW = prompt_of(
    saved(ksampler(IMAGE[0], APPLE, empty(), steps=8, seed=1), "apple"),
    sentence(ksampler(TEXT[0], ROCKET, empty_text(2), steps=8, seed=2)),
    saved(ksampler(IMAGE[0], DUAL, empty(2), steps=12, seed=3), "dual"),
    saved(ksampler(IMAGE[0], STAR, empty(), steps=8, seed=4), "star"),
)


def runner(server: Killable, flow: Path, output: Path) -> subprocess.Popen:
    """`run_workflow.py` on the server."""
    command = [
        sys.executable,
        str(ROOT / "run_workflow.py"),
        str(flow),
        "--server",
        server.url,
        "--wait",
        "300",
        "--output",
        str(output),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def made(output: Path) -> dict[str, bytes | str]:
    """The pixels of pictures and the words of texts, by file."""
    files = sorted(path for path in output.iterdir())
    return {
        path.name: path.read_text() if path.suffix == ".txt" else Image.open(path).tobytes() for path in files
    }


def test_killed_and_started_again(killable, tmp_path, capsys):
    rng, flow = random.Random(0), tmp_path / "flow.json"
    flow.write_text(json.dumps(WORKFLOW))
    started = time.monotonic()
    whole = runner(killable, flow, tmp_path / "whole")
    printed, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    seconds, expected, resumed = time.monotonic() - started, made(tmp_path / "whole"), 0
    assert len(expected) == 5
    for number in range(KILLS):
        Server(killable.url).post("/free", {"unload_models": True, "free_memory": True})
        process = runner(killable, flow, tmp_path / str(number))
        first = process.stderr.readline()
        time.sleep(rng.uniform(0, seconds))
        killable.kill()
        time.sleep(rng.choice([0, 0, 1, 3]))
        killable.start()
        out, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
        resumed += "to come back; what is here is not made again." in first + said
        assert made(tmp_path / str(number)) == expected, said
        # each once
        assert sorted(out.replace(f"{tmp_path / str(number)}", "")) == sorted(
            printed.replace(f"{tmp_path / 'whole'}", "")
        )
        launcher.wait_for(Server(killable.url), killable.process, killable.log)
    with capsys.disabled():
        print(f"\n{KILLS} kills of the server, {resumed} in the middle of a job: all jobs ended as without")
    assert resumed or KILLS < 3
