"""What a bulk job makes of each row: pictures, captions, embeddings, and the errors of single rows."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bulk_rows import QUICK, content
from picture_files import coverage, encode, picture_files, pixels
from PIL import Image

from tools.torture.forked import Result, run_forked
from vd_core import MODEL, load
from vd_core.__main__ import main
from vd_core.bulk.parts import locate_part, unpack_pictures, write_captions, write_part
from vd_core.bulk.tasks import Runner
from vd_core.checkpoints.load import read_weights
from vd_core.checkpoints.write import save_model
from vd_core.datasets.find import find_rows
from vd_core.pictures import from_pil, read_frames, read_picture, resize_and_crop
from vd_core.ranking import similarity


def pictures_of(source):
    return find_rows(source, recursive=True).keep("picture").rows


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
    assert head == ["file_name", "caption", "caption_2", "score", "score_2", "not_sure"]
    assert [row[0] for row in rows] == names and all(len(row) == len(head) for row in rows)
    clip = load(MODEL, parts=["clip_vision", "clip_text"]).clip
    for name, caption, _, score, _, doubt in rows:
        seen = clip.encode_image(from_pil(read_picture((folder / name).read_bytes(), name)))[:, 0]
        cosine = float(similarity(seen, clip.embed_text([caption])))
        assert float(score) == pytest.approx(cosine, abs=2e-3) and (doubt == "yes") == (cosine < 0.55)
    shutil.copy(out / "captions.csv", folder)
    read = {row.id: row.text for row in pictures_of(folder)}
    assert {name: read[name] for name in names} == {row[0]: row[1] or None for row in rows}


@pytest.mark.parametrize("lacking", ["the text tower", "its vocabulary"])
def test_captions_without_what_reads_texts_have_no_scores(folder, tmp_path, lacking):
    pytest.importorskip("pyarrow")
    lean = tmp_path / "lean.safetensors"
    parts = ["clip_vision", "diffuser.data.text", "diffuser.context.image", "text_vae"]
    parts += ["clip_text"] * (lacking == "its vocabulary")
    vocabularies = replace(read_weights(MODEL, parts=parts).vocabularies, clip_merges=None)
    save_model(lean, load(MODEL, parts=parts), vocabularies)
    options = ["--model", str(lean), "--steps", "2", "--workers", "0"]
    assert main(["bulk", "caption", str(folder), str(tmp_path / "out"), *options]) == 3
    table = (tmp_path / "out" / "captions.csv").read_text("utf-8-sig")
    assert table.startswith("file_name,caption\n") and all(row.count(",") >= 1 for row in table.splitlines())


def test_captions_of_parts_without_scores_keep_their_columns(tmp_path):
    pytest.importorskip("pyarrow")
    parts = [tmp_path / "part-000000.parquet", tmp_path / "part-000001.parquet"]
    write_part(parts[0], [{"id": "a.png", "error": "", "captions": ["a", "b"]}], 0)
    scored = {"captions": ["c", "d"], "scores": [0.5, 0.25], "not_sure": True}
    write_part(parts[1], [{"id": "b.png", "error": "", **scored}], 1)
    write_captions(tmp_path / "captions.csv", parts, 2)
    with (tmp_path / "captions.csv").open(encoding="utf-8-sig", newline="") as file:
        _, first, second = csv.reader(file)
    assert first == ["a.png", "a", "b", "", "", ""] and second == ["b.png", "c", "d", "0.500", "0.250", "yes"]


def test_texts_are_drawn_and_embedded(tmp_path):
    (tmp_path / "a.txt").write_text("red apple, 3d style\nbanana, flat style\n")
    rows = find_rows(tmp_path).keep("text").rows
    assert [len(result["pictures"]) for result in Runner(replace(QUICK, task="text-to-image"))(rows)] == [
        1,
        1,
    ]
    assert [
        np.linalg.norm(r["embedding"]) for r in Runner(replace(QUICK, task="embed-text"))(rows)
    ] == pytest.approx([1, 1], abs=1e-5)


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
        assert torch.equal(from_pil(read_picture(runner.reader.read(row), row.id)), images[:1])
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


def test_pictures_that_would_be_black_are_errors_that_name_the_layer(folder):
    runner = Runner(QUICK)
    runner.model.diffuser.context["image"][-1].proj_out.weight.data.mul_(1e38)
    results = runner(pictures_of(folder))
    assert not any("pictures" in result for result in results)
    assert (
        "failed: Output block 3's image context layer gave inf in float32: its weights are damaged"
        in results[0]["error"]
    )
