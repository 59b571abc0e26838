"""`versatile-diffusion reconstruct`: what it draws, what it refuses, and that killing it changes no byte."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vd_core import MODEL, Context, Sampling, load, save_model, to_pil, token_similarity
from vd_core.__main__ import main
from vd_core.bulk.job import open_job
from vd_core.bulk.reconstruct import Reconstruction, Reconstructor, list_guesses
from vd_core.commands.options.reconstruct import add_options
from vd_core.commands.reconstruct import choose_type
from vd_core.diffuser import precision
from vd_core.embedded import FOLDER
from vd_core.training.dataset import CaptionedPictures

ROOT = Path(__file__).resolve().parents[3]
ROWS = 3
FAST = ["--count", "2", "--steps", "4", "--cfg", "2"]


@pytest.fixture(scope="module")
def vd():
    return load(MODEL)


@pytest.fixture(scope="module")
def inputs(vd, tmp_path_factory):
    """Tokens that stand for predicted ones, and coarse pictures to start from."""
    folder = tmp_path_factory.mktemp("predicted")
    data = CaptionedPictures.load(FOLDER)
    np.save(folder / "images.npy", vd.encode_image(data.pixels[:ROWS]).tokens.numpy())
    np.save(folder / "texts.npy", vd.encode_text(data.captions[:ROWS]).tokens.numpy())
    (folder / "guesses").mkdir()
    coarse = torch.nn.functional.avg_pool2d(data.pixels[:ROWS], 8)
    for number, picture in enumerate(to_pil(torch.nn.functional.interpolate(coarse, scale_factor=8))):
        picture.save(folder / "guesses" / f"{number}.png")
    return folder


def command(inputs, out, *options):
    whole = [
        str(inputs / "images.npy"),
        "--texts",
        str(inputs / "texts.npy"),
        "--guesses",
        str(inputs / "guesses"),
    ]
    return ["reconstruct", *whole, "--out", str(out), *FAST, *options]


def contents(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "job.json")
    }


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "job"
    assert main(command(inputs, out)) == 0
    return out


def test_the_best_of_each_row_is_kept(vd, inputs, finished):
    pictures = sorted((finished / "pictures").iterdir())
    assert [path.name for path in pictures] == [f"{row:09d}-0.png" for row in range(ROWS)]
    assert Image.open(pictures[0]).size == (64, 64)
    assert (finished / "errors.jsonl").read_bytes() == b""


def test_a_row_is_what_python_draws(vd, inputs, finished, tmp_path):
    """By hand: the dual blend from a guess, two samples, the one whose tokens are nearest."""
    from vd_core.bulk.tasks import seed_rows
    from vd_core.pictures import from_pil
    from vd_core.sampling.noise import SampleNoise

    images, texts = (torch.from_numpy(np.load(inputs / name)) for name in ("images.npy", "texts.npy"))
    contexts = [
        Context("image", images[1:2].repeat(2, 1, 1), weight=0.5),
        Context("text", texts[1:2].repeat(2, 1, 1), vd.encode_text("").tokens, weight=0.5),
    ]
    guess = from_pil([Image.open(inputs / "guesses" / "1.png").convert("RGB")])
    noise = SampleNoise(iter(seed_rows(0, "noise", ["000000001"], 2)))
    sampling = Sampling("unipc", 4, 2.0, strength=0.85, spacing="linspace")
    drawn = vd.image_vae.decode(
        vd.sample("image", contexts, vd.image_vae.encode(guess).repeat(2, 1, 1, 1), noise, sampling)
    )
    best = int(token_similarity(vd.encode_image(drawn).tokens, images[1:2]).argmax())
    to_pil(drawn[best : best + 1])[0].save(tmp_path / "expected.png")
    assert (finished / "pictures" / "000000001-0.png").read_bytes() == (
        tmp_path / "expected.png"
    ).read_bytes()


def test_defaults_of_the_command_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    add_options(parser)
    options, library = parser.parse_args(["images.npy", "--out", "OUT"]), Reconstruction("images.npy")
    for name in ("ratio", "normalise", "count", "best", "seed", "size", "dtype"):
        assert getattr(options, name) == getattr(library, name), name
    for name in ("sampler", "steps", "cfg", "strength", "spacing"):
        assert getattr(options, name) == getattr(library.sampling, name), name


def test_batches_change_no_picture_but_for_rounding(inputs, finished, tmp_path):
    assert main(command(inputs, tmp_path / "job", "--batch", "3")) == 0
    for path in (finished / "pictures").iterdir():
        one, other = (
            np.asarray(Image.open(folder / "pictures" / path.name), dtype=int)
            for folder in (finished, tmp_path / "job")
        )
        assert np.abs(one - other).max() <= 1


def test_changed_inputs_and_options_are_named(inputs, finished, tmp_path, capsys):
    assert main(command(inputs, finished, "--steps", "5")) == 1
    assert "settings.sampling.steps is 5, there it was 4" in capsys.readouterr().err
    settings = Reconstruction(str(inputs / "images.npy"), count=2)
    job = open_job(inputs / "images.npy", tmp_path / "job", settings, 1)
    assert [row.id for row in job.rows] == ["000000000", "000000001", "000000002"]


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_bytes(inputs, finished, tmp_path):
    out = tmp_path / "job"
    run = [sys.executable, "-m", "vd_core", *command(inputs, out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for parts in (1, 2):
        child = subprocess.Popen(
            run, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while len(list(out.glob("part-*"))) < parts and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, timeout=300).returncode == 0
    assert contents(out) == contents(finished)


@pytest.mark.ray
def test_on_ray_it_draws_the_same(inputs, finished, tmp_path):
    pytest.importorskip("ray")
    assert main(command(inputs, tmp_path / "job", "--workers", "2")) == 0
    assert contents(tmp_path / "job") == contents(finished)


def refusal(capsys, *arguments):
    assert main(["reconstruct", *map(str, arguments)]) == 1
    return capsys.readouterr().err


def test_refusals_are_sentences(inputs, tmp_path, capsys):
    images, out = inputs / "images.npy", ["--out", tmp_path / "job"]
    assert "There is no file" in refusal(capsys, tmp_path / "none.npy", *out)
    (tmp_path / "text.npy").write_text("no array")
    assert "is no array of numbers: save it by numpy.save" in refusal(capsys, tmp_path / "text.npy", *out)
    np.save(tmp_path / "flat.npy", np.zeros((3, 160), dtype=np.float32))
    assert "[3, 160] float32 where tokens [rows, tokens, width]" in refusal(
        capsys, tmp_path / "flat.npy", *out
    )
    np.save(tmp_path / "two.npy", np.load(inputs / "texts.npy")[:2])
    assert "two.npy has 2 rows where" in refusal(capsys, images, "--texts", tmp_path / "two.npy", *out)
    assert "There is no folder" in refusal(capsys, images, "--guesses", tmp_path / "none", *out)
    assert "ratio must be a finite number from 0 to 1" in refusal(capsys, images, "--ratio", 1.5, *out)
    assert "best must be a finite number from 1 to 16" in refusal(capsys, images, "--best", 17, *out)
    assert not (tmp_path / "job" / "job.json").exists()


def test_a_bad_row_fails_alone(inputs, tmp_path, capsys):
    tokens = np.load(inputs / "images.npy")
    tokens[1] *= 20
    np.save(tmp_path / "images.npy", tokens)
    out = tmp_path / "job"
    assert main(["reconstruct", str(tmp_path / "images.npy"), "--out", str(out), *FAST, "--batch", "3"]) == 3
    assert "2 of 3 rows done, 1 failed" in capsys.readouterr().out
    failed = json.loads((out / "errors.jsonl").read_text())
    assert failed["id"] == "000000001" and "by the norm of its first token" in failed["error"]
    assert (
        main(
            [
                "reconstruct",
                str(tmp_path / "images.npy"),
                "--out",
                str(tmp_path / "other"),
                *FAST,
                "--normalise",
            ]
        )
        == 0
    )


def test_what_would_fail_in_every_row_is_refused_before(inputs, tmp_path, capsys, caplog):
    """Tokens of another model, or never normalised, a model without a part: nothing is begun."""
    images, texts = (np.load(inputs / name) for name in ("images.npy", "texts.npy"))
    real = {"image": np.zeros((3, 257, 768)), "text": np.zeros((3, 77, 768))}
    for name, array in {
        **real,
        "loud": images * 20,
        "loud texts": texts * 20,
        "few": images[:, :5],
    }.items():
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
    out = ["--out", tmp_path / "job"]
    said = refusal(capsys, tmp_path / "image.npy", *out)
    assert "image.npy are [257, 768], and this model reads [65, 160]: give with --model" in said
    said = refusal(capsys, inputs / "images.npy", "--texts", tmp_path / "text.npy", *out)
    assert "text.npy are [77, 768], and this model reads [32, 160]: give with --model" in said
    assert "are [5, 160]" in refusal(capsys, tmp_path / "few.npy", *out)
    said = refusal(capsys, tmp_path / "loud.npy", *out)
    assert "tokens of each of the 3 rows" in said
    assert "first token, as normalise=True of load_context, --norm" in said
    settings = Reconstruction(str(inputs / "images.npy"), str(tmp_path / "loud texts.npy"))
    settings.find_rows(inputs, False)
    assert "text tokens of each of the 3 rows" in caplog.text
    assert "end token, which docs/embeddings.md" in caplog.text
    save_model(tmp_path / "half.safetensors", load(MODEL, parts=["image_vae"]))
    half = ["--model", tmp_path / "half.safetensors"]
    assert "half.safetensors has no diffuser." in refusal(capsys, inputs / "images.npy", *out, *half)
    assert not (tmp_path / "job").exists()


def test_where_no_row_can_be_made_the_command_fails(inputs, tmp_path, capsys):
    tokens = np.load(inputs / "images.npy")
    tokens[:, 3] = np.nan
    np.save(tmp_path / "images.npy", tokens)
    said = refusal(capsys, tmp_path / "images.npy", "--out", tmp_path / "job", *FAST)
    assert "All 3 rows failed; " in said and "000000000 failed: The tokens" in said and "NaN" in said
    assert len((tmp_path / "job" / "errors.jsonl").read_text().splitlines()) == 3


def test_failed_rows_are_tried_again_when_asked(inputs, finished, tmp_path, monkeypatch, capsys):
    arguments, draw = command(inputs, tmp_path / "job"), Reconstructor.draw

    def fail(self, numbers):
        if 1 in numbers:
            raise RuntimeError("the driver was gone")
        return draw(self, numbers)

    monkeypatch.setattr(Reconstructor, "draw", fail)
    assert main(arguments) == 3
    assert "2 of 3 rows done, 1 failed (errors.jsonl; --retry-failed tries" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(arguments) == 3
    assert main([*arguments, "--retry-failed"]) == 0
    assert contents(tmp_path / "job") == contents(finished)


def test_too_little_memory_is_not_the_fault_of_a_row(inputs, finished, tmp_path, monkeypatch, capsys):
    """It ends the job where it stands; a smaller batch is tried first."""
    arguments, draw = command(inputs, tmp_path / "job", "--batch", "2"), Reconstructor.draw
    tried = []

    def fail(self, numbers):
        tried.append(list(numbers))
        if len(numbers) > 1 or 2 in numbers:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return draw(self, numbers)

    monkeypatch.setattr(Reconstructor, "draw", fail)
    assert main(arguments) == 1 and tried == [[0, 1], [0], [1], [2]]
    assert "There is not enough memory for 000000002, a single row: choose a" in capsys.readouterr().err
    assert len(list((tmp_path / "job").glob("part-*"))) == 1
    monkeypatch.undo()
    assert main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "job" / "pictures").iterdir()) == sorted(
        path.name for path in (finished / "pictures").iterdir()
    )


def test_devices_are_chosen_and_do_not_count_as_changes(inputs, finished, capsys):
    assert main(command(inputs, finished, "--device", "cpu")) == 0
    assert main(command(inputs, finished, "--device", "gpu7")) == 1
    assert "The device 'gpu7' cannot be used here: choose cpu, or one" in capsys.readouterr().err
    assert main(command(inputs, finished, "--device", "meta")) == 1
    assert "Nothing is computed on the device 'meta': choose cpu, or one" in capsys.readouterr().err


def test_stopped_while_pictures_are_unpacked_it_says_how_to_go_on(inputs, finished, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vd_core.commands.reconstruct.unpack_pictures", stop)
    assert main(command(inputs, finished)) == 130
    assert "Stopped: the same command goes on with what is missing." in capsys.readouterr().err


def test_guesses_are_ordered_by_number(tmp_path):
    names = ["2.png", "9.png", "10.png", "10_b.png", "recon_1.jpg", "recon_2.png", "recon_10.png"]
    for name in ("notes.txt", "._9.png", *reversed(names)):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "3.png").mkdir()
    assert [path.name for path in list_guesses(tmp_path)] == names


def test_a_job_that_was_begun_keeps_the_type_that_auto_found(tmp_path, monkeypatch):
    given = argparse.Namespace(dtype="auto", out=tmp_path, device="cpu", workers=0, gpus=0)
    found = iter([torch.bfloat16, torch.float32])
    monkeypatch.setattr(precision, "find_fastest_dtype", lambda: next(found))
    assert choose_type(given) == "bfloat16"
    (tmp_path / "job.json").write_text('{"settings": {"dtype": "bfloat16"}}')
    assert choose_type(given) == "bfloat16" and next(found) == torch.float32
    given.device, given.out = "gpu7", tmp_path / "new"
    with pytest.raises(ValueError, match="The device 'gpu7' cannot be used here"):
        choose_type(given)
