"""Bulk jobs: results that depend on nothing but their row, and resumption that does nothing twice."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import coverage, encode, picture_files, pixels
from PIL import Image

from tools.torture.forked import Result, run_forked
from vd_core import MODEL, load, save_model
from vd_core.__main__ import main
from vd_core.bulk import job as jobs
from vd_core.bulk.parts import locate_part, read_errors, unpack_pictures
from vd_core.bulk.tasks import Runner, Settings
from vd_core.datasets.find import find_rows
from vd_core.pictures import from_pil, read_frames, read_picture, resize_and_crop
from vd_core.runs import lock_folder
from vd_core.sampling.options import Sampling

ROOT = Path(__file__).resolve().parents[3]
QUICK = Settings("variation", seed=3, sampling=Sampling("dpmpp_2m", 2, 2.0))


def picture(number):
    return Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
    )


def content(number):
    file = io.BytesIO()
    picture(number).save(file, format="png")
    return file.getvalue()


def pictures_of(source):
    return find_rows(source, recursive=True).keep_pictures().rows


def open_job(source, out, settings, batch, **options):
    return jobs.open_job(source, out, settings, batch, recursive=True, **options)


@pytest.fixture
def folder(tmp_path):
    """Five pictures in a folder, the third of which is none."""
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    for number in range(5):
        (source / ("more" if number > 3 else ".") / f"{number}.png").write_bytes(
            b"nothing" if number == 2 else content(number)
        )
    return source


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
    for text in ("{", "[]", "[" * 100_000):
        (job.out / "job.json").write_text(text)
        with pytest.raises(ValueError, match="job.json is damaged"):
            open_job(folder, tmp_path / "out", QUICK, batch=5)


def test_a_result_does_not_depend_on_its_batch(folder):
    rows, runner = pictures_of(folder), Runner(replace(QUICK, count=2))
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
    results = Runner(replace(QUICK, task=task, count=2))(pictures_of(folder))
    assert [len(result.get(column, [])) for result in results] == (
        [2, 2, 0, 2, 2] if task == "caption" else [160, 160, 0, 160, 160]
    )
    assert all(isinstance(text, str) for result in results for text in result.get("captions", []))


def test_captions_are_a_table_that_training_reads(folder, tmp_path, capsys):
    """Rows in their order, those that failed left out; the last line says where it is."""
    pytest.importorskip("pyarrow")
    (folder / "=1+1.png").write_bytes(content(6))
    out = tmp_path / "out"
    options = ["--count", "2", "--steps", "2", "--batch", "2", "--workers", "0", "--recursive"]
    assert main(["bulk", "caption", str(folder), str(out), *options]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "captions.csv")
    with (out / "captions.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    names = ["0.png", "1.png", "3.png", "=1+1.png", "more/4.png"]
    assert head == ["file_name", "caption", "caption_2"] and [row[0] for row in rows] == names
    assert all(len(row) == 3 for row in rows)
    shutil.copy(out / "captions.csv", folder)
    read = {row.id: row.text for row in pictures_of(folder)}
    assert {name: read[name] for name in names} == {row[0]: row[1] or None for row in rows}


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


def test_texts_are_drawn_and_embedded(tmp_path):
    (tmp_path / "a.txt").write_text("red apple, 3d style\nbanana, flat style\n")
    rows = find_rows(tmp_path).keep_texts().rows
    assert [len(result["pictures"]) for result in Runner(replace(QUICK, task="text-to-image"))(rows)] == [
        1,
        1,
    ]
    assert [
        np.linalg.norm(r["embedding"]) for r in Runner(replace(QUICK, task="embed-text"))(rows)
    ] == pytest.approx([1, 1], abs=1e-5)


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


def test_another_model_of_the_same_name_is_noticed(folder, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    settings = replace(QUICK, models=(str(tmp_path / "model.safetensors"),))
    open_job(folder, tmp_path / "out", settings, batch=2)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    with pytest.raises(ValueError, match="model_sha256 is .*, there it was"):
        open_job(folder, tmp_path / "out", settings, batch=2)


def test_size_and_guidance_are_what_suits_a_model_by_whatever_name(folder, tmp_path, capsys):
    """A copy of the embedded model draws as it does; 512 pixels at 7.5, version 1.0's, would be garbage."""
    shutil.copy(MODEL, tmp_path / "own.safetensors")
    options = ["--model", str(tmp_path / "own.safetensors"), "--steps", "1"]
    out = tmp_path / "out"
    assert main(["bulk", "variation", str(folder), str(out), *options, "--workers", "0"]) == 3
    assert json.loads((out / "job.json").read_text())["settings"]["sampling"]["cfg"] == 2
    assert main(["sample", "a fox", "--out", str(out), "--count", "1", *options]) == 0
    unpack_pictures(locate_part(out, "variation", 0), out)
    found = [out / "sample_00001.png", *out.glob("0*-0.png")]
    assert len(found) == 4 and {Image.open(path).size for path in found} == {(64, 64)}
    capsys.readouterr()
    assert main(["sample", "a fox", "--out", str(out), "--size", "0"]) == 1
    assert "--size must be a finite number from 8 to 8192, got 0" in capsys.readouterr().err


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


@pytest.mark.parametrize("task", ["caption", "embed"])
def test_a_cutout_is_read_as_the_same_picture_on_white(tmp_path, task):
    """Colours that lie hidden under the alpha change nothing."""
    colors, alpha = pixels(), coverage()
    hidden = np.where(alpha[..., None] == 0, np.uint8(77), colors)
    white = np.asarray(read_picture(encode(Image.fromarray(np.dstack([colors, alpha])), "PNG"), "x"))
    for name, array in (("cut.png", np.dstack([hidden, alpha])), ("white.png", white)):
        (tmp_path / name).write_bytes(encode(Image.fromarray(array), "PNG"))
    settings, column = replace(QUICK, task=task, count=1), {"caption": "captions", "embed": "embedding"}[task]
    runner = Runner(settings)
    first, second = (runner([row._replace(id="same")])[0] for row in pictures_of(tmp_path))
    assert first[column] == second[column]
    on_black = Runner(replace(settings, background="black"))([pictures_of(tmp_path)[0]._replace(id="same")])[
        0
    ]
    assert task == "caption" or on_black[column] != first[column]


def test_pictures_are_those_of_the_canvas_and_of_training(tmp_path):
    """To the last bit, for every kind of file that has no transparent parts."""
    for file in picture_files():
        if file.alpha is None and file.colors is None:
            (tmp_path / file.name).write_bytes(file.content)
    runner, rows = Runner(replace(QUICK, task="embed")), pictures_of(tmp_path)
    assert len(rows) >= 30
    for row in rows:
        images, _ = read_frames(Path(row.path), row.id)
        assert torch.equal(from_pil(runner.reader.read_picture(row)), images[:1])
        assert torch.equal(runner.read(row), resize_and_crop(images[:1], runner.model.config.clip.image_size))


def test_a_picture_that_memory_does_not_suffice_for_fails_alone(tmp_path):
    """A small file of 174 million pixels, 870 MB in all, in a process that may take 300 MB more, and
    what Python has freed and kept."""
    (tmp_path / "a.png").write_bytes(content(1))
    (tmp_path / "large.png").write_bytes(encode(Image.new("1", (13_200, 13_200)), "PNG"))
    runner, rows = Runner(replace(QUICK, task="embed")), pictures_of(tmp_path)

    def embed():
        good, bad = runner(rows)
        return Result("wrong" if good["error"] else "survived", good["error"] or bad["error"])

    result = run_forked(embed, memory=300 << 20)
    assert result.end == "survived", result
    assert result.said == "large.png cannot be read as a picture: there is not enough memory for its pixels."


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


def test_pictures_that_would_be_black_are_errors_that_name_the_layer(folder):
    runner = Runner(QUICK)
    runner.model.diffuser.context["image"][-1].proj_out.weight.data.mul_(1e38)
    results = runner(pictures_of(folder))
    assert not any("pictures" in result for result in results)
    assert (
        "failed: Output block 3's image context layer gave inf in float32: its weights are damaged"
        in results[0]["error"]
    )


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
