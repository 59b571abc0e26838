"""Picture files, read into pictures: every format and kind of pixels, and one sentence for every fault."""

import re
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import encode, picture_files, pixels, png
from PIL import Image

from vd_core import pictures
from vd_core.pictures import from_pil, list_endings, read_frames, read_picture

FILES = picture_files()
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n"
RGB = encode(Image.fromarray(pixels()), "PNG")


def test_there_are_many_kinds_of_files():
    assert len(FILES) >= 50 and len({file.name for file in FILES}) == len(FILES)
    assert {Path(file.name).suffix.lower() for file in FILES} <= set(list_endings())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_picture_is_its_first_frame_on_white(file):
    picture = read_picture(file.content, file.name)
    assert picture.mode == "RGB"
    np.testing.assert_allclose(np.asarray(picture).astype(int), file.expected, atol=file.atol, rtol=0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_frames_and_masks_are_those_of_the_canvas(file):
    images, masks = read_frames(file.content, file.name)
    height, width = file.expected.shape[:2]
    assert images.shape == (file.frames, 3, height, width) and images.dtype == masks.dtype == torch.float32
    colors = file.expected if file.colors is None else file.colors
    np.testing.assert_allclose(images[0].permute(1, 2, 0) * 255, colors, atol=file.atol + 1e-4, rtol=0)
    if file.alpha is None:
        assert masks.shape == (file.frames, 64, 64) and not masks.any()
    else:
        np.testing.assert_allclose(masks[0] * 255, 255.0 - file.alpha, atol=1e-4, rtol=0)


@pytest.mark.parametrize("file", [file for file in FILES if file.alpha is None], ids=lambda file: file.name)
def test_opaque_pictures_are_alike_to_the_last_bit_at_both_doors(file):
    if file.colors is None:
        images, _ = read_frames(file.content, file.name)
        assert torch.equal(images[:1], from_pil([read_picture(file.content, file.name)]))


def test_frames_differ(tmp_path):
    images, _ = read_frames(next(file for file in FILES if file.name == "pages.tif").content, "pages.tif")
    for seed in range(3):
        assert torch.equal(images[seed], torch.from_numpy(pixels(seed)).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize("color", ["white", "black", "#ff8000"])
def test_the_background_can_be_chosen(color):
    clear = encode(Image.new("RGBA", (4, 4), (1, 2, 3, 0)), "PNG")
    assert np.array_equal(read_picture(clear, "a.png", color), Image.new("RGB", (4, 4), color))


def test_a_file_that_is_not_there_is_the_systems_to_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "no.png", "no.png")
    with pytest.raises(IsADirectoryError):
        read_picture(tmp_path, "folder")


def claims(width: int, height: int) -> bytes:
    """Return a PNG that claims a size."""
    return png(width, height, 8, 2, b"")


def text_bomb() -> bytes:
    """Return a PNG whose text unpacks to 200 MB."""
    return png(24, 16, 8, 2, b"\0" * 73 * 16, (b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20))))


BAD = {
    "EPS named PNG": (EPS, "it is none of PNG, JPEG"),
    "text": (b"no picture", "it is none of PNG, JPEG"),
    "nothing": (b"", "it is none of PNG, JPEG"),
    "HTML": (b"<!doctype html><html></html>", "it is none of"),
    "cut PNG": (RGB[:-40], "truncated"),
    "cut JPEG": (encode(Image.fromarray(pixels()).resize((300, 300)), "JPEG")[:2000], "truncated"),
    "many pixels": (claims(60_000, 60_000), "exceeds limit|more than 178,956,970 pixels"),
    "text that unpacks": (text_bomb(), "."),
    "damaged DDS": (b"DDS " + struct.pack("<I", 124) + bytes(120), "."),
    "damaged QOI": (b"qoif" + struct.pack(">II", 24, 16) + b"\x03\0" + b"\xfe", "."),
    "damaged PPM": (b"P6 24 16 99999999\n", "."),
    "damaged XBM": (b"#define a_width 24\n#define a_height 16\nstatic char a_bits[] = {\n", "."),
    "damaged SGI": (b"\x01\xda\x01\x01" + bytes(508), "."),
    "damaged IM": (b"Image type: RGB\r\nImage size (x*y): 1*-9\r\n".ljust(511, b"\0") + b"\x1a", "."),
    "floats beyond 1": (
        encode(Image.fromarray(np.full((4, 4), 7, np.float32)), "TIFF"),
        "its values reach from 7 to 7",
    ),
    "NaN": (
        encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"),
        "its values reach from nan",
    ),
    "negative": (
        encode(Image.fromarray(np.full((4, 4), -3, np.int32)), "TIFF"),
        "its values reach from -3 to -3",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("read", [read_picture, read_frames])
def test_what_is_no_picture_is_refused_in_one_sentence(name, read, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    content, words = BAD[name]
    with pytest.raises(ValueError, match=words) as caught:
        read(content, "its name.png")
    assert re.fullmatch(r"its name.png cannot be read as a picture: [^\n]+\.", str(caught.value))


def test_frames_together_have_a_bound(monkeypatch):
    content = next(file for file in FILES if file.name == "animated.webp").content
    monkeypatch.setattr(pictures, "MOST_PIXELS", 24 * 16 * 2)
    with pytest.raises(ValueError, match="it has more than 768 pixels"):
        read_frames(content, "a.webp")
    assert read_picture(content, "a.webp").size == (24, 16)


def test_warnings_of_pillow_are_not_shown(recwarn):
    for file in FILES:
        read_frames(file.content, file.name)
    assert not list(recwarn)
