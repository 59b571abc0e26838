"""What the encoders make of anyone's pictures with captions, kept on disk; pictures that the model draws."""

import io
import json
import logging

import numpy as np
import pytest
import torch
from picture_files import picture_files
from PIL import Image
from rounding import assert_rounded

from vd_core.datasets.find import find_rows
from vd_core.pictures import from_pil, read_frames
from vd_core.training import prepared
from vd_core.training.prepared import Source, find_pictures, fit_picture, prepare, read_batches
from vd_core.training.prior import PriorDrawing, draw_prior

RED, BLUE = (255, 0, 0), (0, 0, 255)
TEXTS = ["a cat's hat, flat style", "red apple, noto style"]


def picture(color, size=(40, 20), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.png").write_bytes(picture(RED))
    (data / "a.txt").write_text(f" {TEXTS[0]}\n", encoding="utf-8")
    (data / "b.png").write_bytes(picture(BLUE))
    (data / "metadata.jsonl").write_text(
        json.dumps({"file_name": "b.png", "text": TEXTS[1]}), encoding="utf-8"
    )
    return data


def read(path):
    source = Source(path, 16)
    batches = list(read_batches(find_pictures(source).rows, source, 2, []))
    return [
        (text, pixels[:, 0, 0].tolist())
        for pictures, texts in batches
        for pixels, text in zip(pictures, texts, strict=True)
    ]


def test_pictures_and_captions(folder):
    assert read(folder) == [(TEXTS[0], [1, 0, 0]), (TEXTS[1], [0, 0, 1])]


def test_pictures_are_cut_upright_and_on_white(tmp_path):
    wide = Image.new("RGB", (64, 32), RED)
    wide.paste(BLUE, (0, 0, 16, 32))  # the left quarter, which is cut off
    wide.save(tmp_path / "wide.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    half = Image.new("RGB", (32, 32), RED)
    half.paste(BLUE, (0, 0, 32, 16))
    half.save(tmp_path / "turned.png", exif=exif)
    source = Source(tmp_path, 16, "x")
    ((pictures, _),) = read_batches(find_pictures(source).rows, source, 4, [])
    clear, turned, cut = pictures
    assert (clear == 1).all() and cut[2].max() < 0.1 and cut[0].min() > 0.9
    assert turned[0, 0, 0] == 1 and turned[2, -1, 0] == 1
    black = Source(tmp_path / "clear.png", 16, "x", background="black")
    assert not next(read_batches(find_pictures(black).rows, black, 4, []))[0].any()


def test_pictures_are_those_of_the_canvas(tmp_path):
    """To the last bit, for every kind of file without transparent parts, cut to a square as training does."""
    files = [file for file in picture_files() if file.alpha is None and file.colors is None]
    assert len(files) >= 30
    for file in files:
        (tmp_path / file.name).write_bytes(file.content)
    source = Source(tmp_path, 16, "x")
    rows = find_pictures(source).rows
    (pictures, _), *others = read_batches(rows, source, 100, [])
    assert not others and len(pictures) == len(files)
    for row, found in zip(rows, pictures, strict=True):
        images, _ = read_frames(tmp_path / row.id, row.id)
        array = (images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert torch.equal(fit_picture(Image.fromarray(array), 16), found)
        assert torch.equal(from_pil([Image.fromarray(array)]), images[:1])


def test_what_is_wrong_is_one_sentence_and_leaves_no_folder(folder, models, tmp_path, caplog):
    out = tmp_path / "out"

    def fill(path, caption=None):
        source = Source(path, 32, caption)
        return prepare(source, models / "tiny.safetensors", out / "data", [("image", "text")], "cpu")

    with pytest.raises(FileNotFoundError, match="There is no file or folder .*nowhere"):
        fill(tmp_path / "nowhere")
    (folder / "c.png").write_bytes(b"no picture")
    (folder / "notes.pdf").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"1 of 3 pictures in .* have no caption, such as c.png \(.*1 .pdf, which is not read.*\): ",
    ):
        fill(folder)
    assert not out.exists()
    with caplog.at_level(logging.WARNING):
        assert len(fill(folder, "anything").captions) == 2
    assert (
        "1 left out: 1 .pdf, which is not read" in caplog.text
        and "c.png cannot be read as a picture" in caplog.text
    )
    assert [
        json.loads(line)["name"] for line in (out / "data" / "left_out.jsonl").read_text().splitlines()
    ] == ["notes.pdf"]


def test_unreadable_pictures_are_listed(folder, models, tmp_path, caplog):
    (folder / "c.png").write_bytes(b"no picture")
    source, out = Source(folder, 32, "x"), tmp_path / "rows"
    for _ in range(2):  # the second time it is ready
        prepared = prepare(source, models / "tiny.safetensors", out, [("image", "text")], "cpu")
        assert prepared.captions == TEXTS
    (entry,) = map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    assert entry["id"] == "c.png" and "c.png cannot be read as a picture" in entry["error"]
    assert caplog.text.count("1 of 3 pictures cannot be read and are left out") == 1


def test_prepared_rows_are_what_the_encoders_say(folder, models, model):
    flows = [("image", "text"), ("text", "image")]
    source = Source(folder, 32)
    found = prepare(source, models / "tiny.safetensors", folder.parent / "rows", flows, "cpu")
    ((pictures, captions),) = read_batches(find_rows(folder).rows, source, 16, [])
    sizes = model.config.diffuser.data
    assert found.captions == captions == TEXTS
    with torch.inference_mode():
        assert_rounded(
            found.flows.latents["image"], model.image_vae.encode(pictures) * sizes["image"].latent_scale
        )
        assert_rounded(
            found.flows.latents["text"], model.text_vae.encode(captions) * sizes["text"].latent_scale
        )
        texts, seen = model.clip.encode_text([*captions, ""]).half(), model.clip.encode_image(pictures).half()
        black = model.clip.encode_image(torch.zeros(1, 3, 32, 32)).half()
    torch.testing.assert_close(found.flows.contexts["text"], texts[:2], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.contexts["image"], seen, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.nulls["text"], texts[2:], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.nulls["image"], torch.cat([0 * black, black]), rtol=0, atol=1e-3)


@pytest.fixture
def again(folder, models):
    """Prepare the folder, or reads what is prepared."""

    def run(**options):
        accept, model = (
            options.pop("accept_changes", False),
            options.pop("model", models / "tiny.safetensors"),
        )
        source = Source(**{"path": folder, "size": 32, **options})
        return prepare(source, model, folder.parent / "rows", [("image", "text")], "cpu", accept)

    return run


def test_prepared_rows_are_kept_and_other_data_refused(folder, models, again):
    first = again()
    assert again().digest == first.digest
    (folder / "a.png").touch()
    assert again().digest == first.digest
    for change, words in (
        (
            lambda: again(size=64),
            "made from other things: size is 64, there it was 32. Choose another folder, delete",
        ),
        (lambda: again(background="black"), "background is black, there it was white"),
        (lambda: again(model=[models / "tiny.safetensors"] * 2), "model is .*, there it was"),
    ):
        with pytest.raises(ValueError, match=words):
            change()
    (folder / "a.txt").write_text("a cat's hat, tall style", encoding="utf-8")
    with pytest.raises(
        ValueError, match="made from other things: data is .*, there it was .*--accept-changes"
    ):
        again()
    other = again(accept_changes=True)
    assert other.digest != first.digest and other.captions[0].endswith("tall style")
    assert again().digest == other.digest


def test_rows_of_an_accepted_change_that_was_stopped_are_not_taken_for_those_before(
    folder, again, monkeypatch
):
    first, write = again(), prepared.write_whole

    def killed_before_the_record(path):
        if path.name == "made_from.json":
            raise KeyboardInterrupt
        return write(path)

    (folder / "a.png").write_bytes(picture(BLUE))
    monkeypatch.setattr(prepared, "write_whole", killed_before_the_record)
    with pytest.raises(KeyboardInterrupt):
        again(accept_changes=True)
    monkeypatch.undo()
    (folder / "a.png").write_bytes(picture(RED))
    assert again().digest == first.digest


def test_data_by_other_names_are_the_same_data(folder, again):
    again()
    for ending in ("png", "txt"):
        (folder / f"a.{ending}").rename(folder / f"a1.{ending}")
    again()


@pytest.mark.parametrize("damage", ["exchange", "cut", "index", "index of another kind", "gone"])
def test_prepared_rows_that_are_damaged_are_named(folder, again, damage):
    again()
    path = folder.parent / "rows" / "latents.image"
    content = path.read_bytes()
    if damage == "exchange":
        path.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, len(content), dtype=np.uint8)))
    elif damage == "cut":
        path.write_bytes(content[:-4])
    elif damage == "gone":
        path.unlink()
    else:
        (path.parent / "prepared.json").write_text(
            "{" if damage == "index" else '{"files": [1], "captions": 3}'
        )
    with pytest.raises(
        ValueError, match="rows is damaged .*: delete it, then the same command encodes the pictures again"
    ):
        again()


def test_a_folder_without_pictures(tmp_path, models):
    for name in ("empty", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    for name, words in (
        ("empty", "There are no pictures in .*empty: it is empty"),
        ("bad", "No picture in .*bad can be read, of 1"),
    ):
        with pytest.raises(ValueError, match=words):
            source = Source(tmp_path / name, 32, "x")
            prepare(source, models / "tiny.safetensors", tmp_path / "rows", [("image", "text")], "cpu")
        assert not (tmp_path / "rows" / "prepared.json").exists()


def test_prior_pictures_are_kept_and_drawn_anew_for_other_prompts(tmp_path, models):
    def draw(count=2, prompts=("red apple, noto style",), **options):
        drawing = PriorDrawing(prompts, count, 32, 2.0)
        return draw_prior(
            models / "tiny.safetensors", tmp_path / "prior", drawing, torch.device("cpu"), **options
        )

    first = {path.name: path.read_bytes() for path in draw().iterdir()}
    more = {path.name: path.read_bytes() for path in draw(3).iterdir()}
    assert len(more) == len(first) + 2 and first.items() <= more.items()
    with pytest.raises(ValueError, match="prompts is .*a cat's hat.* there it was .*red apple"):
        draw(3, ("a cat's hat, flat style",))
    draw(1, ("a cat's hat, flat style",), accept_changes=True)
    assert [path.read_text() for path in (tmp_path / "prior").glob("*.txt")] == ["a cat's hat, flat style"]
