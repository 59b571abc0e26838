"""Watched by audit hooks, the pack starts no process, talks to nobody and writes into named folders only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WATCH = ROOT / "tests" / "watch.py"


def watched(folder: Path, *command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a program of ours under the watch; it may write into `folder`, which is its folder for temporary
    files too.
    """
    # torch makes its folder when imported
    own = {
        "TMPDIR": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
    }
    environment = os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, str(WATCH), str(folder), *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "open('../elsewhere', 'w')",
        "import os; os.remove('../elsewhere')",
        "import os; os.rename('here', '../elsewhere')",
    ],
)
def test_the_watch_sees_it(line, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "inside" / "program.py").write_text(
        f"open('here', 'w')\ntry:\n    {line}\nexcept Exception:\n    pass\n"
    )
    run = watched(tmp_path / "inside", "program.py", cwd=tmp_path / "inside")
    assert run.returncode == 99 and run.stderr and (tmp_path / "elsewhere").read_text() == "kept"


def test_the_quick_start(tmp_path):
    run = watched(
        tmp_path, "run_workflow.py", "workflows/api/quick-start.json", "--output", str(tmp_path / "pictures")
    )
    assert run.returncode == 0, run.stderr
    assert list((tmp_path / "pictures").glob("*.png"))


def test_converting_a_model(tmp_path):
    model = ROOT / "vd_core" / "embedded"
    program = tmp_path / "program.py"
    start = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    program.write_text(f"{start}from vd_core.__main__ import main\nsys.exit(main())\n")
    file = next(model.glob("*.safetensors"))
    run = watched(
        tmp_path, str(program), "convert", str(file), str(tmp_path / "out.safetensors"), "--dtype", "float16"
    )
    assert run.returncode == 0, run.stderr
    run = watched(tmp_path, str(program), "convert", str(file), str(tmp_path.parent / "out.safetensors"))
    assert (
        run.returncode == 1
        and "refused: open" in run.stderr
        and not (tmp_path.parent / "out.safetensors").exists()
    )


def test_bad_files_at_every_door(tmp_path):
    run = watched(tmp_path, str(ROOT / "tests" / "open_bad_files.py"), str(tmp_path), "5")
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout) > 300


def test_workflows(tmp_path):
    """Pictures, texts, a mask, contexts in files, an energy, SeeCoder: all in one process."""
    names = (
        "dual-context",
        "image-to-text",
        "inpaint",
        "brain-decoding",
        "steer-by-colour",
        "seecoder-reference",
    )
    program = tmp_path / "program.py"
    program.write_text(f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from runner.command import main
for name in {names}:
    assert not main([f"{ROOT}/workflows/api/{{name}}.json", "--output", f"{tmp_path}/{{name}}"]), name
""")
    run = watched(tmp_path, str(program))
    assert run.returncode == 0, run.stderr
    assert all(list((tmp_path / name).iterdir()) for name in names)


def test_a_torture(tmp_path):
    """A small share of the cases that start no processes of their own; each child is watched."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "torture_watched.py"), str(tmp_path), "0.002"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "| all | " in run.stdout
