"""The data of the small model, on made-up pictures: captions, the held-out split, files, and how packages are
read."""

import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vd_core import embedded
from vd_core.training import emoji
from vd_core.training.dataset import CaptionedPictures, write_caption
from vd_core.training.emoji import (
    NAMES,
    STYLES,
    fetch,
    make_iconify_renderer,
    make_webp_renderer,
    place_on_white,
    spell_code_points,
    split,
)


def pairs(names, styles, leave_out=()):
    """All (name, style) pairs as index tensors."""
    both = [(n, s) for s in range(styles) for n in range(names) if (n, s) not in leave_out]
    return torch.tensor([n for n, _ in both]), torch.tensor([s for _, s in both])


def words(count):
    return tuple(f"name {n}" for n in range(count))


def picture(size=(40, 20), box=(5, 5, 35, 15), color=(255, 0, 0, 255)):
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    image.paste(color, box)
    return image


@pytest.fixture
def data():
    name, style = pairs(5, 3)
    images = torch.randint(
        0, 256, (15, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    held_out = torch.zeros(15, dtype=torch.bool)
    held_out[[2, 7]] = True
    return CaptionedPictures(images, name, style, held_out, words(5), ("flat", "line", "3d"))


def test_names_and_styles_are_unambiguous():
    names, characters = zip(*NAMES, strict=True)
    assert len(NAMES) > 150 and len(set(names)) == len(names) and len(set(characters)) == len(characters)
    assert all(
        name == name.lower().strip() and name.isascii() and "," not in name and not character.isascii()
        for name, character in NAMES
    )
    assert all(re.search(r".@\d+\.\d+\.\d+$", package) for package in STYLES.values()), (
        "packages need a version"
    )


def test_the_notice_names_every_package_and_version():
    notice = Path(__file__).parents[3].joinpath("NOTICE").read_text(encoding="utf-8")
    for style, package in STYLES.items():
        name, version = package.rsplit("@", 1)
        assert re.search(rf"^{style} +{re.escape(name)} +{re.escape(version)} ", notice, re.MULTILINE), (
            f"NOTICE lacks {package}"
        )


def test_the_shipped_pictures_are_those_that_the_builder_makes():
    data = CaptionedPictures.load(embedded.FOLDER)
    assert data.images.shape[1:] == (3, emoji.SIZE, emoji.SIZE) and data.styles == tuple(STYLES)
    assert data.names == tuple(name for name, _ in NAMES[: len(data.names)])
    assert torch.equal(data.is_held_out, split(data.name, data.style, data.names, data.styles))
    trained = Counter(data.name[data.train].tolist())
    assert all(trained[name] >= 3 for name in data.name[data.held_out].tolist())
    edges = torch.cat([data.images[..., [0, -1], :].flatten(1), data.images[..., [0, -1]].flatten(1)], dim=1)
    assert edges.min() > 240, "a picture touches its border or is not on white"
    assert (data.images.flatten(1).min(dim=1).values < 210).all(), "a picture is empty"


def test_captions(data):
    assert write_caption("red apple", "3d") == "red apple, 3d style"
    assert data.captions[7] == "name 2, line style" and len(set(data.captions)) == 15


def test_trained_and_held_out_pictures_are_all_pictures(data):
    assert data.held_out.tolist() == [2, 7]
    assert sorted([*data.train.tolist(), *data.held_out.tolist()]) == list(range(15))
    assert (
        data.pixels.min() >= 0
        and data.pixels.max() == 1
        and torch.equal((data.pixels * 255).round().byte(), data.images)
    )


def test_saved_data_come_back_without_loss(data, tmp_path):
    for columns in (4, 15, 32):
        data.save(tmp_path, columns)
        again = CaptionedPictures.load(tmp_path)
        assert torch.equal(again.images, data.images) and again.captions == data.captions
        assert torch.equal(again.held_out, data.held_out) and (again.names, again.styles) == (
            data.names,
            data.styles,
        )


def test_missing_data_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="pictures.webp: build the data with `python -m vd_core.training.emoji"
    ):
        CaptionedPictures.load(tmp_path)


def test_the_split_holds_out_pairs_and_no_names():
    name, style = pairs(100, 5)
    held_out = split(name, style, words(100), tuple("abcde"))
    assert held_out.sum() == 60  # 12 % of 500
    assert max(Counter(name[held_out].tolist()).values()) == 1
    assert set(Counter(style[held_out].tolist()).values()) == {12}  # the styles in turn


def test_a_longer_list_of_names_holds_out_what_a_shorter_one_did():
    assert emoji.BLOCK == 128
    name, style = pairs(300, 5)
    held_out = split(name, style, words(300), tuple("abcde"))
    for count in (128, 256):
        head = name < count
        assert torch.equal(held_out[head], split(name[head], style[head], words(count), tuple("abcde")))
    assert held_out.sum() == 76 + 76 + 26 and max(Counter(name[held_out].tolist()).values()) == 1


def test_only_names_with_four_styles_are_held_out():
    incomplete = {(n, s) for n in range(50) for s in (0, 1)}  # the first half has three styles of five
    name, style = pairs(100, 5, incomplete)
    held_out = split(name, style, words(100), tuple("abcde"))
    assert held_out.any() and name[held_out].min() >= 50


def test_a_missing_style_is_left_to_the_next_name():
    missing = {(n, 0) for n in range(90)}  # ten names have the first style
    name, style = pairs(100, 5, missing)
    held_out = split(name, style, words(100), tuple("abcde"))
    assert set(name[held_out & (style == 0)].tolist()) <= set(range(90, 100))
    assert torch.equal(held_out, split(name, style, words(100), tuple("abcde")))


def test_the_split_goes_by_the_names_and_not_by_their_order():
    name, style = pairs(100, 5)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    shuffled = tuple(words(100)[n] for n in order)
    first, second = (
        split(name, style, words(100), tuple("abcde")),
        split(name, style, shuffled, tuple("abcde")),
    )
    assert {(words(100)[n], s.item()) for n, s in zip(name[first], style[first], strict=True)} == {
        (shuffled[n], s.item()) for n, s in zip(name[second], style[second], strict=True)
    }


@pytest.mark.parametrize(
    ("character", "codes"),
    [
        ("🍎", ["1f34e", "1f34e-fe0f"]),
        ("☀️", ["2600", "2600-fe0f"]),
        ("☀", ["2600", "2600-fe0f"]),
        ("🇩🇪", ["1f1e9-1f1ea", "1f1e9-1f1ea-fe0f"]),
        ("©", ["00a9", "00a9-fe0f"]),
    ],
)
def test_code_points(character, codes):
    assert spell_code_points(character) == codes


def test_webp_pictures_are_found_by_either_spelling():
    buffer = io.BytesIO()
    picture().save(buffer, "webp", lossless=True)
    render = make_webp_renderer(
        {"assets/2600-fe0f.webp": buffer.getvalue(), "assets/1f34e.webp": buffer.getvalue()}
    )
    assert render("☀️").size == render("🍎").size == (40, 20) and render("🍎").mode == "RGBA"
    assert render("🍌") is None


def test_iconify_pictures_are_found_by_character_or_slug():
    pytest.importorskip("resvg_py")
    square = {"body": '<path fill="#f00" d="M0 0h8v8H0z"/>'}
    icons = {"width": 16, "icons": {"red-apple": square, "banana": {**square, "width": 8, "height": 8}}}
    files = {
        "icons.json": json.dumps(icons).encode(),
        "chars.json": json.dumps({"1f34e": "red-apple"}).encode(),
    }
    render = make_iconify_renderer(files, {"🍌": "banana", "🍇": "grapes"})
    assert render("🍎").getpixel((10, 10)) == (255, 0, 0, 255) and render("🍎").getpixel((200, 200))[3] == 0
    assert render("🍌").getpixel((200, 200)) == (255, 0, 0, 255)
    assert render("🍇") is None and render("🍒") is None


def test_pictures_are_centred_on_white():
    square = place_on_white(picture(box=(0, 0, 30, 15)))
    assert square.size == (64, 64) and square.mode == "RGB"
    red = (torch.from_numpy(np.array(square)).int() - torch.tensor([255, 0, 0])).abs().sum(dim=-1) < 60
    rows, columns = red.any(dim=1).nonzero(), red.any(dim=0).nonzero()
    assert 0.88 * 64 <= columns.max() - columns.min() + 1 <= 0.96 * 64
    assert abs(rows.min() + rows.max() - 63) <= 3 and abs(columns.min() + columns.max() - 63) <= 3
    assert square.getpixel((0, 0)) == (255, 255, 255)


def test_what_is_transparent_becomes_white():
    half = place_on_white(picture(size=(20, 20), box=(0, 0, 20, 20), color=(0, 0, 0, 128)))
    assert half.getpixel((32, 32)) == pytest.approx((127, 127, 127), abs=1) and half.getpixel((0, 32)) == (
        255,
        255,
        255,
    )


def test_packages_are_read_without_their_top_folder(monkeypatch):
    def pack(command, cwd, **_):
        assert command[1:] == ["pack", "--silent", "@some/package@1.2.3"]
        with tarfile.open(Path(cwd, "some-package-1.2.3.tgz"), "w:gz") as archive:
            for path, content in (("package/chars.json", b"{}"), ("package/assets/2600.webp", b"picture")):
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return subprocess.CompletedProcess(command, 0, stdout="some-package-1.2.3.tgz\n")

    monkeypatch.setattr(emoji.shutil, "which", lambda name: name)
    monkeypatch.setattr(emoji.subprocess, "run", pack)
    assert fetch("@some/package@1.2.3") == {"chars.json": b"{}", "assets/2600.webp": b"picture"}


def test_what_is_missing_is_said(monkeypatch):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="no such version\n")

    monkeypatch.setattr(emoji.subprocess, "run", fail)
    monkeypatch.setattr(emoji.shutil, "which", lambda name: name)
    with pytest.raises(ValueError, match=r"^npm could not fetch @some/package@9: no such version\.$"):
        fetch("@some/package@9")
    monkeypatch.setattr(emoji.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"install Node.js and npm first\.$"):
        fetch("@some/package@9")
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ValueError, match=r"pip install resvg-py\.$"):
        make_iconify_renderer({}, {})


@pytest.mark.parametrize("count", [0, -1, len(NAMES) + 1])
def test_a_number_of_names_that_there_is_not(count, tmp_path):
    with pytest.raises(ValueError, match=f"1 to {len(NAMES)} names to draw, not {count}"):
        emoji.build(tmp_path, count)


def test_build(monkeypatch, tmp_path, capsys):
    """From packages to files, without npm and without SVG."""
    monkeypatch.setattr(
        emoji, "fetch", lambda package: {"chars.json": json.dumps({"1f34e": "red-apple"}).encode()}
    )

    def renderer(style):
        return lambda *files: lambda character: None if (style, character) == ("svg", "🍌") else picture()

    monkeypatch.setattr(emoji, "make_iconify_renderer", renderer("svg"))
    monkeypatch.setattr(emoji, "make_webp_renderer", renderer("webp"))
    emoji.build(tmp_path, 3)
    data = CaptionedPictures.load(tmp_path)
    assert (
        len(data.images) == 3 * 5 - 4
        and data.names == tuple(name for name, _ in NAMES[:3])
        and data.styles == tuple(STYLES)
    )
    assert "banana, 3d style" in data.captions and "banana, noto style" not in data.captions
    assert len(data.held_out) == 1 and "missing: banana" in capsys.readouterr().out
