"""Reading anyone's pictures with captions, and what the encoders make of them."""

import io
import json
import logging
import sys
import tarfile

import pytest
import torch
from PIL import Image

from vd_core.training.prepared import prepared
from vd_core.training.user_data import chunked, fingerprint, readable, samples

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(color, size=(40, 20), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    (data / "b.png").write_bytes(picture(RED))
    (data / "b.txt").write_text(" a cat's hat, flat style\n", encoding="utf-8")
    (data / "more" / "a.png").write_bytes(picture(BLUE))
    (data / "more" / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "red apple, noto style"}\n', encoding="utf-8")
    return data


def read(path, caption=None):
    return [(text, pixels[:, 0, 0].tolist(), tuple(pixels.shape)) for pixels, text in readable(samples(path), 16, caption)]


EXPECTED = [("a cat's hat, flat style", [1, 0, 0], (3, 16, 16)), ("red apple, noto style", [0, 0, 1], (3, 16, 16))]


def test_folder_with_text_files_and_an_index(folder):
    assert read(folder) == EXPECTED


def test_tar_shards_in_order(folder):
    shards = folder.parent / "shards"
    shards.mkdir()
    members = [
        {"x/1.png": picture(RED), "x/1.txt": b"a cat's hat, flat style"},
        {"x/2.json": json.dumps({"caption": "red apple, noto style"}).encode(), "x/2.png": picture(BLUE), "x/2.cls": b"7"},
    ]
    for number, files in enumerate(members):
        with tarfile.open(shards / f"{number}.tar", "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert read(shards) == EXPECTED
    assert read(shards / "1.tar") == EXPECTED[1:]


def test_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"image": [{"bytes": picture(RED)}, {"bytes": picture(BLUE)}], "text": [text for text, *_ in EXPECTED]}
    parquet.write_table(pyarrow.table(rows), folder.parent / "data.parquet")
    assert read(folder.parent / "data.parquet") == EXPECTED


def test_parquet_without_pyarrow_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="needs pyarrow: pip install pyarrow"):
        list(samples(tmp_path))


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
    clear, turned, cut = (pixels for pixels, _ in readable(samples(tmp_path), 16, "x"))
    assert (clear == 1).all() and cut[2].max() < 0.1 and cut[0].min() > 0.9
    assert turned[0, 0, 0] == 1 and turned[2, -1, 0] == 1


def test_what_is_wrong_is_one_sentence(folder, tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match="There is no .*nowhere to train on"):
        list(samples(tmp_path / "nowhere"))
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"c\.png has no caption: write one beside it as \.txt"):
        read(folder)
    with caplog.at_level(logging.WARNING):
        assert len(read(folder, "anything")) == 2
    assert "left out: " in caplog.text and "c.png is no readable picture" in caplog.text
    (folder / "metadata.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"Line 1 of .*metadata\.jsonl is not like"):
        read(folder)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="is no data set"):
        list(samples(tmp_path / "a.zip"))


def test_chunks_keep_pairs_together():
    pairs = [(torch.full((3, 2, 2), float(n)), str(n)) for n in range(5)]
    chunks = list(chunked(pairs, 2))
    assert [texts for _, texts in chunks] == [["0", "1"], ["2", "3"], ["4"]]
    assert [pictures[:, 0, 0, 0].tolist() for pictures, _ in chunks] == [[0, 1], [2, 3], [4]]


def test_prepared_rows_are_what_the_encoders_say(folder, models, model):
    flows = [("image", "text"), ("text", "image")]
    found = prepared(folder, models / "tiny.safetensors", folder.parent / "rows", flows, 32, None, "cpu")
    pictures = torch.stack([pixels for pixels, _ in readable(samples(folder), 32)])
    sizes, captions = model.config.diffuser.data, [text for text, *_ in EXPECTED]
    assert found.captions == captions
    with torch.inference_mode():
        torch.testing.assert_close(found.flows.latents["image"], model.image_vae.encode(pictures) * sizes["image"].latent_scale)
        torch.testing.assert_close(found.flows.latents["text"], model.text_vae.encode(captions) * sizes["text"].latent_scale)
        texts, seen = model.clip.encode_text([*captions, ""]).half(), model.clip.encode_image(pictures).half()
        black = model.clip.encode_image(torch.zeros(1, 3, 32, 32)).half()
    torch.testing.assert_close(found.flows.contexts["text"], texts[:2], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.contexts["image"], seen, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.nulls["text"], texts[2:], rtol=0, atol=1e-3)
    torch.testing.assert_close(found.flows.nulls["image"], torch.cat([0 * black, black]), rtol=0, atol=1e-3)


def test_prepared_rows_are_kept_and_other_data_refused(folder, models):
    def again(data=folder, size=32):
        return prepared(data, models / "tiny.safetensors", folder.parent / "rows", [("image", "text")], size, None, "cpu")

    first = again()
    before = fingerprint(folder)
    assert again().digest == first.digest
    with pytest.raises(ValueError, match="was made with other size: choose an empty folder"):
        again(size=64)
    (folder / "b.png").touch()
    assert fingerprint(folder) == before
    words = (folder / "b.txt").read_text(encoding="utf-8")
    (folder / "b.txt").write_text(words.replace("flat", "tall"), encoding="utf-8")
    assert fingerprint(folder) != before
    with pytest.raises(ValueError, match="was made with other data"):
        again()


def test_a_folder_without_pictures(tmp_path, models):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="There are no pictures in"):
        prepared(tmp_path / "empty", models / "tiny.safetensors", tmp_path / "rows", [("image", "text")], 32, None, "cpu")
    assert not (tmp_path / "rows" / "prepared.json").exists()
