"""Bulk jobs: results that depend on nothing but their row, and resumption that does nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bulk_rows import QUICK, content

from vd_core import MODEL, load, save_model
from vd_core.__main__ import main
from vd_core.bulk import job as jobs
from vd_core.bulk.parts import locate_part, read_errors
from vd_core.bulk.tasks import Settings
from vd_core.runs import lock_folder

ROOT = Path(__file__).resolve().parents[3]


def open_job(source, out, settings, batch, **options):
    return jobs.open_job(source, out, settings, batch, recursive=True, **options)


@pytest.fixture
def locally(monkeypatch):
    """Parts run in this process instead of Ray's; the list says which did."""
    ran = []

    def run(job, missing, worker, workers, gpus, address, progress):
        worker = jobs.Worker(job.settings, **worker)
        for number in missing:
            ran.append(number)
            rows = json.dumps(job.part(number))
            done = worker({"part": [number], "rows": [rows]})
            assert done["error"] == [""]
            progress(done["rows"][0])

    monkeypatch.setattr(jobs, "run_on_ray", run)
    monkeypatch.setattr(jobs, "check_installed", lambda task, workers: None)
    return ran


def test_jobs_and_parts_that_are_damaged_are_named(folder, locally, tmp_path):
    job = open_job(folder, tmp_path / "out", QUICK, batch=5)
    locate_part(job.out, "variation", 0).write_bytes(b"no tar")
    with pytest.raises(ValueError, match="part-000000.tar is damaged: delete it"):
        jobs.run(job)
    for text in ("{", "[]", "[" * 100_000, '{"accepted": 5}'):
        (job.out / "job.json").write_text(text)
        with pytest.raises(ValueError, match="job.json is damaged"):
            open_job(folder, tmp_path / "out", QUICK, batch=5)


@pytest.mark.parametrize(
    ("task", "workers", "package"), [("variation", "2", "ray"), ("embed", "0", "pyarrow")]
)
def test_packages_that_are_missing_are_named_before_any_work(
    folder, tmp_path, monkeypatch, task, workers, package, capsys
):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["bulk", task, str(folder), str(tmp_path / "out"), "--workers", workers]) == 1
    assert (
        f'This job needs {package}, which is not installed: pip install ".[bulk]"' in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_workers_that_cannot_be_are_refused_before_any_work(folder, tmp_path, capsys):
    assert main(["bulk", "variation", str(folder), str(tmp_path / "out"), "--workers", "-1"]) == 1
    assert "at least one worker with one thread" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_was_stopped_goes_on_and_ends_alike(folder, locally, tmp_path):
    whole, stopped = (open_job(folder, tmp_path / name, QUICK, batch=2) for name in ("whole", "stopped"))
    assert jobs.run(whole) == 1 and locally == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        jobs.run(stopped, progress=lambda rows: signal.raise_signal(signal.SIGINT))
    assert locally[3:] == [0] and stopped.missing() == [1, 2]
    (stopped.out / ".vd_0123456789abcdef.part").write_bytes(b"half of it")
    again = open_job(folder, tmp_path / "stopped", QUICK, batch=2)
    assert jobs.run(again) == 1 and locally[4:] == [1, 2]
    assert jobs.run(again) == 1 and len(locally) == 6
    files = [{path.name: path.read_bytes() for path in job.out.iterdir()} for job in (whole, stopped)]
    written = {".lock", "job.json", "inputs.jsonl", "errors.jsonl", *(f"part-00000{n}.tar" for n in range(3))}
    assert files[0] == files[1] and set(files[0]) == written
    assert list(read_errors(locate_part(whole.out, "variation", 1))) == [
        {
            "id": "2.png",
            "error": "2.png cannot be read as a picture: it is none of PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP "
            "and the like, or damaged.",
        }
    ]


def test_a_worker_computes_on_its_own_threads(tmp_path):
    before = torch.get_num_threads()
    for threads in (2, 1):
        jobs.Worker(replace(QUICK, task="embed"), tmp_path, batch=2, threads=threads)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_what_a_job_was_made_from_is_known(folder, locally, tmp_path):
    """Each change is refused and spelled out, or accepted, and then it alone is made again."""
    out = tmp_path / "out"
    job = open_job(folder, out, QUICK, batch=2)
    jobs.run(job)
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    for change, words in (
        (
            lambda: open_job(folder, out, replace(QUICK, seed=4), batch=2),
            "settings.seed is 4, there it was 3",
        ),
        (lambda: open_job(folder, out, QUICK, batch=3), "batch is 3, there it was 2"),
    ):
        with pytest.raises(ValueError, match=words):
            change()
    (folder / "3.png").write_bytes(content(30))
    with pytest.raises(ValueError, match=r"other things: 1 row changed \(3.png\)\. Go on with the same ones"):
        open_job(folder, out, QUICK, batch=2)
    assert {path.name: path.read_bytes() for path in out.glob("part-*")} == before
    again = open_job(folder, out, QUICK, batch=2, accept_changes=True)
    assert again.missing() == [1] and again.record["accepted"] == ["1 row changed (3.png)"]
    locally.clear()
    jobs.run(again)
    assert locally == [1]
    after = {path.name: path.read_bytes() for path in out.glob("part-*")}
    assert [name for name in before if before[name] != after[name]] == ["part-000001.tar"]
    assert open_job(folder, out, QUICK, batch=2).missing() == []
    assert json.loads((out / "job.json").read_text())["accepted"] == ["1 row changed (3.png)"]


def test_rows_that_come_and_go_are_spelled_out(folder, locally, tmp_path):
    out = tmp_path / "out"
    jobs.run(open_job(folder, out, QUICK, batch=1))
    (folder / "more" / "4.png").unlink()
    (folder / "0.png").rename(folder / "00.png")
    with pytest.raises(
        ValueError,
        match=r"rows is 4, there it was 5; 2 rows gone \(0.png, more/4.png\); 1 row new \(00.png\)",
    ):
        open_job(folder, out, QUICK, batch=1)
    job = open_job(folder, out, QUICK, batch=1, accept_changes=True)
    assert job.missing() == [0] and not locate_part(out, "variation", 4).exists()


def test_files_that_are_no_parts_are_kept(folder, locally, tmp_path):
    out = tmp_path / "out"
    open_job(folder, out, QUICK, batch=1)
    for name in ("part-abc.parquet", "part-000000 (copy).tar", "part-000000.tar"):
        (out / name).write_bytes(b"")
    open_job(folder, out, replace(QUICK, seed=4), batch=1, accept_changes=True)
    assert sorted(path.name for path in out.glob("part-*")) == ["part-000000 (copy).tar", "part-abc.parquet"]


def test_a_changed_row_of_an_id_that_two_have_is_made_again(folder, tmp_path):
    """As older versions wrote them, the last of both unchanged."""
    out = tmp_path / "out"
    open_job(folder, out, QUICK, batch=1)
    first, *others = (out / "inputs.jsonl").read_text().splitlines()
    changed = json.dumps(json.loads(first) | {"sha256": "0"})
    (out / "inputs.jsonl").write_text("\n".join([changed, *others, first]))
    record = json.loads((out / "job.json").read_text())
    (out / "job.json").write_text(json.dumps(record | {"inputs_sha256": "before"}))
    for number in range(len(others) + 2):
        locate_part(out, "variation", number).write_bytes(b"")
    job = open_job(folder, out, QUICK, batch=1, accept_changes=True)
    assert job.missing() == [0] and not locate_part(out, "variation", len(others) + 1).exists()


def test_another_model_of_the_same_name_is_noticed(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    settings = replace(QUICK, models=(str(tmp_path / "model.safetensors"),))
    open_job(folder, tmp_path / "out", settings, batch=2)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    with pytest.raises(ValueError, match="model_sha256 is .*, there it was"):
        open_job(folder, tmp_path / "out", settings, batch=2)


def test_too_little_memory_for_a_command_is_one_sentence(tmp_path, monkeypatch, capsys):
    def load(*files, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 GB")

    monkeypatch.setattr("vd_core.commands.sample.load", load)
    assert main(["sample", "a fox", "--count", "100000000", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: There is not enough memory: choose fewer")


def test_a_folder_serves_one_job_at_a_time(folder, locally, tmp_path):
    job = open_job(folder, tmp_path / "out", QUICK, batch=2)
    with lock_folder(tmp_path / "out"):
        for second in (lambda: open_job(folder, tmp_path / "out", QUICK, batch=2), lambda: jobs.run(job)):
            with pytest.raises(ValueError, match="out is in use by another run: wait until it has ended"):
                second()
    open_job(folder, tmp_path / "out", replace(QUICK, seed=4), batch=2, accept_changes=True)
    with pytest.raises(ValueError, match="has been given to another job since"):
        jobs.run(job)
    assert not locally


def test_refusals(tmp_path, folder, monkeypatch):
    job = open_job(folder, tmp_path / "out", QUICK, batch=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "empty").mkdir()
    for action, error, sentence in (
        (
            lambda: jobs.run(job, workers=-1),
            ValueError,
            "at least one worker with one thread, and 0 to 64 GPUs for each, got -1 with 1",
        ),
        (lambda: jobs.run(job), ValueError, r'needs ray, .* pip install "ray\[data\]" elsewhere'),
        (lambda: jobs.run(job, gpus=float("nan")), ValueError, "0 to 64 GPUs for each"),
        (
            lambda: open_job(tmp_path / "empty", tmp_path / "other", QUICK, 2),
            ValueError,
            "There is no picture in .*empty",
        ),
        (
            lambda: jobs.open_job(folder / "more", tmp_path / "other", replace(QUICK, task="embed-text"), 2),
            ValueError,
            r"There is no text in .*more: 1 left out: 1 .png without a text.",
        ),
        (lambda: Settings("sing"), ValueError, "task must be one of caption"),
        (
            lambda: Settings("caption", count=0),
            ValueError,
            "count must be a finite number from 1 to 1000, got 0",
        ),
        (lambda: Settings("caption", seed=-1), ValueError, "seed must be a finite number from 0 to"),
        (lambda: Settings("caption", size=60), ValueError, "size must be divisible by 8, got 60"),
        (
            lambda: Settings("caption", size=0),
            ValueError,
            "size must be a finite number from 8 to 8192, got 0",
        ),
        (
            lambda: Settings("caption", background="blurple"),
            ValueError,
            "background must be a colour such as white",
        ),
        (lambda: open_job(folder, tmp_path / "other", QUICK, batch=0), ValueError, "1 to 65536 rows, got 0"),
    ):
        with pytest.raises(error, match=sentence):
            action()


@pytest.mark.ray
def test_a_killed_job_on_ray_goes_on(folder, tmp_path):
    """Killed with all its processes at any moment, then run to its end: the rows of an uninterrupted run."""
    pytest.importorskip("ray.data", reason='ray is not installed: pip install "ray[data]"')
    command = [
        sys.executable,
        "-m",
        "vd_core",
        "bulk",
        "embed",
        str(folder),
        "OUT",
        "--batch",
        "1",
        "--workers",
        "2",
        "--recursive",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [*command[:6], str(tmp_path / "killed"), *command[7:]],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while killed.poll() is None and not list(tmp_path.glob("killed/part-*")):
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    for name in ("killed", "whole"):
        done = subprocess.run(
            [*command[:6], str(tmp_path / name), *command[7:]],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert "4 of 5 rows done, 1 failed" in done.stdout, done.stderr
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("killed", "whole")
    ]
    assert files[0] == files[1] and len(files[0]) == 9


@pytest.mark.ray
def test_what_ends_a_worker_on_ray_is_its_own_sentence(folder, tmp_path):
    pytest.importorskip("ray.data")
    save_model(tmp_path / "half.safetensors", load(MODEL, parts=["image_vae"]))
    settings = replace(QUICK, models=(str(tmp_path / "half.safetensors"),))
    with pytest.raises(OSError, match="half.safetensors has no diffuser.* The same command then goes on"):
        jobs.run(open_job(folder, tmp_path / "out", settings, batch=5))
