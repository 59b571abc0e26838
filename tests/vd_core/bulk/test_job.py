"""Bulk jobs: rows from anywhere, results that depend on nothing but their row, and resumption that does nothing twice."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vd_core.bulk import job as jobs
from vd_core.bulk.parts import errors, part_path
from vd_core.bulk.rows import find_rows, read_pictures, read_texts
from vd_core.bulk.tasks import Runner, Settings

ROOT = Path(__file__).resolve().parents[3]
QUICK = Settings("variation", steps=2, cfg=2.0, seed=3)


def picture(number):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), dtype=np.uint8))


def content(number):
    file = io.BytesIO()
    picture(number).save(file, format="png")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Five pictures in a folder, the third of which is none."""
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    for number in range(5):
        (source / ("more" if number > 3 else ".") / f"{number}.png").write_bytes(b"nothing" if number == 2 else content(number))
    return source


@pytest.fixture
def locally(monkeypatch):
    """Parts run in this process instead of Ray's; the list says which did."""
    ran = []

    def run(job, missing, workers, gpus, threads, address, progress):
        worker = jobs.Worker(job.settings, job.out, job.batch)
        for number in missing:
            ran.append(number)
            rows = json.dumps([(row.id, str(row.path), row.at) for row in job.part(number)])
            progress(worker({"part": [number], "rows": [rows]})["rows"][0])

    monkeypatch.setattr(jobs, "on_ray", run)
    return ran


def test_a_folder_gives_its_pictures_in_order(folder):
    rows = find_rows(folder, "picture")
    assert [row.id for row in rows] == ["0.png", "1.png", "2.png", "3.png", "more/4.png"]
    found = read_pictures(rows)
    assert [getattr(item, "size", None) for item in found] == [(50, 40), (50, 41), None, (50, 43), (50, 44)]
    assert str(found[2]) == "2.png cannot be read: it is no picture of a known format."


def test_shards_lines_and_tables_give_rows(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, data in (("x/1.png", content(1)), ("x/1.txt", b"one\n"), ("x/1.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    (tmp_path / "b.txt").write_text("two\n\n three \n")
    (tmp_path / "c.jsonl").write_text('{"caption": "four"}\n{"other": 5}\nnothing\n')
    rows = find_rows(tmp_path, "text")
    assert [row.id for row in rows] == ["a.tar#x/1", "b.txt#0", "b.txt#2", "c.jsonl#0", "c.jsonl#1", "c.jsonl#2"]
    found = read_texts(rows)
    assert found[:4] == ["one", "two", "three", "four"]
    assert "none of text, prompt" in str(found[4]) and "c.jsonl#2 cannot be read" in str(found[5])
    (row,) = find_rows(tmp_path, "picture")
    assert read_pictures([row])[0].size == (50, 41)


def test_tables_give_rows(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files need pyarrow, which ray[data] brings")
    from pyarrow import parquet

    cells = [{"bytes": content(0)}, {"bytes": b"nothing"}, {"bytes": content(2)}]
    parquet.write_table(pyarrow.table({"image": cells, "caption": ["a", None, "c"]}), tmp_path / "a.parquet")
    rows = find_rows(tmp_path, "picture")
    found = read_pictures(rows[::-1])
    assert [getattr(item, "size", None) for item in found] == [(50, 42), None, (50, 40)]
    texts = read_texts(find_rows(tmp_path, "text"))
    assert texts[::2] == ["a", "c"] and str(texts[1]) == "a.parquet#1 cannot be read: it holds no text."
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="b.parquet is no parquet file"):
        find_rows(tmp_path, "picture")


def test_lines_end_where_their_numbers_say(tmp_path):
    (tmp_path / "a.txt").write_text("one\u2028still one\x0b\x85\ntwo\n", encoding="utf-8")
    rows = find_rows(tmp_path, "text")
    assert [row.at for row in rows] == [0, 1] and read_texts(rows) == ["one\u2028still one", "two"]


@pytest.mark.parametrize("line", ['{"text": null}', '{"text": 3}', "[" * 100_000, "[1]"])
def test_what_is_no_text_is_an_error_of_its_row(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + '\n{"text": "good"}\n')
    bad, good = read_texts(find_rows(tmp_path, "text"))
    assert str(bad).startswith("a.jsonl#0 cannot be read: ") and good == "good"


@pytest.mark.parametrize("name", ["link.png", "link.txt", "link.tar", "link.parquet"])
def test_links_that_lead_out_of_the_folder_are_refused(folder, tmp_path, name):
    (tmp_path / "elsewhere").write_bytes(content(1))
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{name} is a link that leads out of"):
        find_rows(folder, "text" if name.endswith("txt") else "picture")
    (folder / name).unlink()
    (folder / "inside.png").symlink_to(folder / "0.png")
    assert "inside.png" in [row.id for row in find_rows(folder, "picture")]


def test_names_that_are_no_unicode_are_written_in_another_way(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(content(1))
    (row,) = find_rows(tmp_path, "picture")
    assert row.id == "\\udcff.png" and read_pictures([row])[0].size == (50, 41)


def test_jobs_and_parts_that_are_damaged_are_named(folder, locally, tmp_path):
    job = jobs.open_job(folder, tmp_path / "out", QUICK, batch=5)
    part_path(job.out, "variation", 0).write_bytes(b"no tar")
    with pytest.raises(ValueError, match="part-000000.tar is damaged: delete it"):
        jobs.run(job)
    for text in ("{", "[]", "[" * 100_000):
        (job.out / "job.json").write_text(text)
        with pytest.raises(ValueError, match="job.json is damaged"):
            jobs.open_job(folder, tmp_path / "out", QUICK, batch=5)


def test_a_result_does_not_depend_on_its_batch(folder):
    rows, runner = find_rows(folder, "picture"), Runner(replace(QUICK, count=2))
    together, alone = runner(rows), [runner([row])[0] for row in rows]
    assert [result["error"] for result in together] == [result["error"] for result in alone]
    for one, other in zip(together, alone, strict=True):
        for first, second in zip(one.get("pictures", []), other.get("pictures", []), strict=True):
            pixels = [np.asarray(Image.open(io.BytesIO(file)), dtype=int) for file in (first, second)]
            assert abs(pixels[0] - pixels[1]).max() <= 1  # rounding
    assert together[0]["pictures"][0] != together[0]["pictures"][1]
    assert [len(result.get("pictures", [])) for result in together] == [2, 2, 0, 2, 2]


@pytest.mark.parametrize(("task", "column"), [("caption", "captions"), ("embed", "embedding")])
def test_other_tasks(folder, task, column):
    results = Runner(replace(QUICK, task=task, count=2))(find_rows(folder, "picture"))
    assert [len(result.get(column, [])) for result in results] == ([2, 2, 0, 2, 2] if task == "caption" else [160, 160, 0, 160, 160])
    assert all(isinstance(text, str) for result in results for text in result.get("captions", []))


def test_texts_are_drawn_and_embedded(tmp_path):
    (tmp_path / "a.txt").write_text("red apple, 3d style\nbanana, flat style\n")
    rows = find_rows(tmp_path, "text")
    assert [len(result["pictures"]) for result in Runner(replace(QUICK, task="text-to-image"))(rows)] == [1, 1]
    assert [np.linalg.norm(r["embedding"]) for r in Runner(replace(QUICK, task="embed-text"))(rows)] == pytest.approx([1, 1], abs=1e-5)


def test_what_was_stopped_goes_on_and_ends_alike(folder, locally, tmp_path):
    whole, stopped = (jobs.open_job(folder, tmp_path / name, QUICK, batch=2) for name in ("whole", "stopped"))
    assert jobs.run(whole) == 1 and locally == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        jobs.run(stopped, progress=lambda rows: signal.raise_signal(signal.SIGINT))
    assert locally[3:] == [0] and stopped.missing() == [1, 2]
    (stopped.out / ".part-000001.tar.99.part").write_bytes(b"half of it")
    again = jobs.open_job(folder, tmp_path / "stopped", QUICK, batch=2)
    assert jobs.run(again) == 1 and locally[4:] == [1, 2]
    assert jobs.run(again) == 1 and len(locally) == 6
    files = [{path.name: path.read_bytes() for path in job.out.iterdir()} for job in (whole, stopped)]
    assert files[0] == files[1] and set(files[0]) == {"job.json", "errors.jsonl", *(f"part-00000{n}.tar" for n in range(3))}
    assert list(errors(part_path(whole.out, "variation", 1))) == [
        {"id": "2.png", "error": "2.png cannot be read: it is no picture of a known format."}
    ]


def test_a_worker_computes_on_its_own_threads(tmp_path):
    before = torch.get_num_threads()
    for threads in (2, 1):
        jobs.Worker(replace(QUICK, task="embed"), tmp_path, batch=2, threads=threads)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_a_folder_holds_one_job(folder, tmp_path):
    jobs.open_job(folder, tmp_path / "out", QUICK, batch=2)
    with pytest.raises(ValueError, match="holds a job with other settings"):
        jobs.open_job(folder, tmp_path / "out", replace(QUICK, seed=4), batch=2)
    (folder / "0.png").unlink()
    with pytest.raises(ValueError, match="holds a job with other rows, rows_sha256, batch"):
        jobs.open_job(folder, tmp_path / "out", QUICK, batch=3)


def test_refusals(tmp_path, folder, monkeypatch):
    job = jobs.open_job(folder, tmp_path / "out", QUICK, batch=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "empty").mkdir()
    for action, error, sentence in (
        (lambda: jobs.run(job, workers=0), ValueError, "at least one worker with one thread, got 0 with 1"),
        (lambda: jobs.run(job), ValueError, r'pip install "ray\[data\]"'),
        (lambda: find_rows(tmp_path / "no", "picture"), FileNotFoundError, "There is no file .*no"),
        (lambda: find_rows(tmp_path / "empty", "picture"), ValueError, "There is no picture in .*: the job reads .png"),
        (lambda: Settings("sing"), ValueError, "The task is one of caption"),
        (lambda: Settings("caption", count=0), ValueError, "at least one result"),
        (lambda: jobs.open_job(folder, tmp_path / "other", QUICK, batch=0), ValueError, "at least one row"),
    ):
        with pytest.raises(error, match=sentence):
            action()


def test_pictures_that_would_be_black_are_errors_that_name_the_layer(folder):
    runner = Runner(QUICK)
    runner.model.diffuser.context["image"][-1].proj_out.weight.data.mul_(1e38)
    results = runner(find_rows(folder, "picture"))
    assert not any("pictures" in result for result in results)
    assert "failed: Output block 3's image context layer gave inf in float32: its weights are damaged" in results[0]["error"]


@pytest.mark.ray
def test_a_killed_job_on_ray_goes_on(folder, tmp_path):
    """Killed with all its processes at any moment, then run to its end: the rows of an uninterrupted run."""
    pytest.importorskip("ray.data", reason='ray is not installed: pip install "ray[data]"')
    command = [sys.executable, "-m", "vd_core", "bulk", "embed", str(folder), "OUT", "--batch", "1", "--workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [*command[:6], str(tmp_path / "killed"), *command[7:]], cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    while killed.poll() is None and not list(tmp_path.glob("killed/part-*")):
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    for name in ("killed", "whole"):
        done = subprocess.run([*command[:6], str(tmp_path / name), *command[7:]], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert "4 of 5 rows done, 1 failed" in done.stdout, done.stderr
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("killed", "whole")]
    assert files[0] == files[1] and len(files[0]) == 7
