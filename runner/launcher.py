"""Start a ComfyUI checkout for as long as it is needed, as its owner would, but with its own output folders.

Nodes must not start processes, so nothing in nodes/ imports this.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from vd_core.foreign import printable

from .errors import WorkflowError
from .server import Server, Unreachable

PATIENCE = 600  # seconds until it must answer; many node packs take minutes to import
HAS_GPU = (
    "import torch; xpu = getattr(torch, 'xpu', None); print(torch.cuda.is_available() or "
    "torch.backends.mps.is_available() or bool(xpu and xpu.is_available()))"
)
# What runs main.py, and ends with us even if we are killed: then the pipe that is its standard input breaks.
LEASH = """
import os, runpy, sys, threading
threading.Thread(target=lambda: os._exit(1 + len(os.read(0, 1))), daemon=True).start()
sys.path[0] = os.getcwd()
del sys.argv[0]
runpy.run_path(os.path.abspath(sys.argv[0]), run_name="__main__")
"""
# which ComfyUI looks for in its output folder too
OWN_MODELS = ("checkpoints", "clip", "vae", "diffusion_models", "loras")


@contextmanager
def launch(checkout: Path, pack: Path, folder: Path, more: Sequence[str] = ()) -> Iterator[Server]:
    """Start the ComfyUI of a checkout on a free port, with this pack; it is stopped at the end in every case.

    Models, input pictures, settings and node packs are those of the checkout, its extra_model_paths.yaml
    included.

    folder: takes what it writes: output, temp, its log. more: further arguments of ComfyUI.

    Raises WorkflowError, and Unreachable if it does not come up or dies, with the end of its log on stderr.
    """
    if not (checkout / "main.py").is_file() or not (checkout / "folder_paths.py").is_file():
        raise WorkflowError(f"{checkout} is not a ComfyUI checkout: it has no main.py and folder_paths.py.")
    log = folder / "server.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        find_python(checkout),
        "-c",
        LEASH,
        "main.py",
        *write_arguments(checkout, pack, folder),
        *read_arguments(checkout),
        *more,
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"],
            cwd=checkout, stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a Ctrl-C is for us, who then stop it
        )  # fmt: skip
    print(f"starting ComfyUI in {checkout}", file=sys.stderr, flush=True)
    try:
        server = Server(f"http://127.0.0.1:{port}")
        wait_for(server, process, log)
        yield server
    except WorkflowError as error:
        if not has_died(process):
            raise
        show_end(log)
        raise Unreachable(
            f"ComfyUI ended with status {process.returncode}; the end of its log is above."
        ) from error
    finally:
        stop(process)


def find_python(checkout: Path) -> str:
    """Find the Python that has what ComfyUI needs.

    It is $COMFYUI_PYTHON, that of a venv in the checkout, of the portable build, or this one.
    """
    own = os.environ.get("COMFYUI_PYTHON")
    names = (
        "venv/bin/python",
        ".venv/bin/python",
        "venv/Scripts/python.exe",
        ".venv/Scripts/python.exe",
        "../python_embeded/python.exe",
    )
    places = [Path(own)] if own else [checkout / name for name in names]
    return next((str(path.absolute()) for path in places if path.is_file()), own or sys.executable)


def read_arguments(checkout: Path) -> list[str]:
    """Return $COMFYUI_ARGS if it is set; else `--cpu` where torch finds no GPU."""
    if "COMFYUI_ARGS" in os.environ:
        return shlex.split(os.environ["COMFYUI_ARGS"])
    try:
        answer = subprocess.run([find_python(checkout), "-c", HAS_GPU], capture_output=True, text=True)
    except OSError as error:
        raise WorkflowError(
            f"{find_python(checkout)} cannot be started ({error}): name ComfyUI's Python in COMFYUI_PYTHON."
        ) from error
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WorkflowError(
            f"{find_python(checkout)} has no torch ({said}): name ComfyUI's Python in COMFYUI_PYTHON."
        )
    return [] if "True" in answer.stdout else ["--cpu"]


def write_arguments(checkout: Path, pack: Path, folder: Path) -> list[str]:
    """Return arguments that bring the pack in and lead all writing into a folder."""
    packs = folder / "custom_nodes"
    for path in (packs, folder / "output"):
        path.mkdir(parents=True, exist_ok=True)
    installed = (checkout / "custom_nodes").glob("*")
    if not any(path.resolve() == pack for path in installed):
        try:
            (packs / pack.name).symlink_to(pack, target_is_directory=True)
        except OSError as error:
            raise WorkflowError(
                f"{pack} cannot be linked to for ComfyUI ({error}): put it into {checkout / 'custom_nodes'}."
            ) from error
    paths = {
        "pack": {"custom_nodes": str(packs)},
        "saved": {name: str(checkout / "output" / name) for name in OWN_MODELS},
    }
    config = folder / "paths.yaml"
    config.write_text(json.dumps(paths))  # JSON is YAML
    database = f"sqlite:///{(folder / 'comfyui.db').as_posix()}"
    return [
        "--output-directory", str(folder / "output"), "--temp-directory", str(folder),
        "--database-url", database, "--extra-model-paths-config", str(config),
    ]  # fmt: skip


def wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            server.greet()
            return
        except WorkflowError:
            if process.poll() is not None:
                raise
            if time.monotonic() > deadline:
                show_end(log)
                raise Unreachable(
                    f"ComfyUI did not answer for {PATIENCE} seconds; the end of its log is above."
                ) from None
        time.sleep(0.2)


def has_died(process: subprocess.Popen) -> bool:
    """Tell whether the process has ended; one that is just dying gets a moment."""
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        return False
    return True


def show_end(log: Path, count: int = 20) -> None:
    """Print the last lines of a log on stderr."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    print(*map(printable, lines[-count:]), sep="\n", file=sys.stderr, flush=True)


def stop(process: subprocess.Popen) -> None:
    """End the process and those that it started, by force if it must be."""
    end, kill = process.terminate, process.kill
    if hasattr(os, "killpg"):  # it leads a group of its own
        end, kill = (partial(os.killpg, process.pid, number) for number in (signal.SIGTERM, signal.SIGKILL))
    try:
        end()
        process.wait(10)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        if process.poll() is None:
            kill()
            process.wait()
        if process.stdin:
            process.stdin.close()
