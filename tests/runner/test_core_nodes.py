"""Core's nodes as the runner has them."""

import json

import numpy as np
import pytest
import torch
from made_up_nodes import node, paint
from picture_files import picture_files
from PIL import Image

from runner import core_nodes


def loaded(path):
    return core_nodes.LoadImage().execute(str(path))


@pytest.mark.parametrize("file", picture_files(), ids=lambda file: file.name)
def test_load_image_reads_every_kind_of_file(tmp_path, file):
    (tmp_path / file.name).write_bytes(file.content)
    images, masks = loaded(tmp_path / file.name)
    colors = file.expected if file.colors is None else file.colors
    assert images.shape == (file.frames, *colors.shape) and len(masks) == file.frames
    np.testing.assert_allclose(images[0] * 255, colors, atol=file.atol + 1e-4, rtol=0)
    alpha = np.full((64, 64), 255) if file.alpha is None else file.alpha
    np.testing.assert_allclose(masks[0] * 255, 255.0 - alpha, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("mode", "color", "rgb", "masked"),
    [
        ("RGB", (255, 51, 0), (1, 0.2, 0), 0),
        ("RGBA", (255, 51, 0, 204), (1, 0.2, 0), 0.2),
        ("RGBA", (255, 51, 0, 0), (1, 0.2, 0), 1),
        ("L", 51, (0.2, 0.2, 0.2), 0),
        ("LA", (51, 204), (0.2, 0.2, 0.2), 0.2),
        ("1", 1, (1, 1, 1), 0),
        ("I;16", 51 * 257, (0.2, 0.2, 0.2), 0),
    ],
)
def test_load_image(tmp_path, mode, color, rgb, masked):
    Image.new(mode, (6, 4), color).save(tmp_path / "in.png")
    image, mask = loaded(tmp_path / "in.png")
    side = (4, 6) if mode.endswith("A") else (64, 64)  # as in ComfyUI
    assert (
        image.shape == (1, 4, 6, 3)
        and mask.shape == (1, *side)
        and image.dtype == mask.dtype == torch.float32
    )
    torch.testing.assert_close(image[0, 0, 0], torch.tensor(rgb, dtype=torch.float32))
    torch.testing.assert_close(mask, torch.full_like(mask, masked))


def test_load_image_of_a_palette_with_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "in.png", transparency=1)
    image, mask = loaded(tmp_path / "in.png")
    assert image[0, 0].tolist() == [[1, 0, 0], [0, 0, 1]] and mask.tolist() == [[[0, 1]]]


def test_load_image_turns_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "in.jpg", exif=exif)
    assert loaded(tmp_path / "in.jpg")[0].shape == (1, 8, 4, 3)


def test_load_image_refuses_other_files(run, tmp_path):
    (tmp_path / "in.png").write_text("no picture")
    flow = {"1": node("LoadImage", image="in.png"), "2": node("PreviewImage", images=["1", 0])}
    assert "LoadImage: " in run(flow)[2] and "cannot be read as a picture" in run(flow)[2]


def test_pictures_are_found_beside_the_workflow(run, tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flow = {"1": node("LoadImage", image="in.png [input]"), "2": node("PreviewImage", images=["1", 0])}
    assert run(flow)[0] == 0
    with Image.open("output/preview_00001_.png") as picture:
        assert json.loads(picture.text["prompt"]) == flow, "the file must not tell where the picture lay"


def test_saving_what_was_loaded_changes_nothing(run, tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    assert (
        run(
            {
                "1": node("LoadImage", image="in.png"),
                "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
            }
        )[0]
        == 0
    )
    assert (np.asarray(Image.open("output/x_00001_.png")) == pixels).all()


def test_latents_go_through_the_vae(run):
    flow = {
        "1": node("Vae"),
        "2": paint(level=1.0),
        "3": node("VAEEncode", pixels=["2", 0], vae=["1", 0]),
        "4": node("VAEDecode", samples=["3", 0], vae=["1", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="x"),
        "6": node("EmptyLatentImage", width=64, height=32, batch_size=2),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 0]),
        "8": node("SaveImage", images=["7", 0], filename_prefix="empty"),
    }
    assert run(flow)[0] == 0
    assert np.asarray(Image.open("output/x_00001_.png")).min() == 255
    assert np.asarray(Image.open("output/empty_00002_.png")).shape == (4, 8, 3)


def test_preview_any_shows_everything():
    shown = [
        core_nodes.PreviewAny().execute(value)["result"][0]
        for value in ("ä", 1, True, None, [1, "ä"], {"a": torch.zeros(1)})
    ]
    assert shown == ["ä", "1", "True", "None", '[1, "ä"]', "{'a': tensor([0.])}"]


def test_a_noise_mask_goes_with_the_latent():
    latent, mask = {"samples": torch.zeros(2, 4, 8, 8), "batch_index": [3, 4]}, torch.rand(2, 64, 64)
    (masked,) = core_nodes.SetLatentNoiseMask().execute(latent, mask)
    assert (
        masked["samples"] is latent["samples"]
        and masked["batch_index"] == [3, 4]
        and "noise_mask" not in latent
    )
    assert torch.equal(masked["noise_mask"], mask[:, None])


def test_pictures_are_scaled_by_a_factor():
    image = torch.rand(2, 4, 6, 3)
    (twice,) = core_nodes.ImageScaleBy().execute(image, "nearest-exact", 2.0)
    assert torch.equal(twice, image.repeat_interleave(2, 1).repeat_interleave(2, 2))
    (half,) = core_nodes.ImageScaleBy().execute(image, "area", 0.5)
    torch.testing.assert_close(half, image.reshape(2, 2, 2, 3, 2, 3).mean(dim=(2, 4)))
    assert core_nodes.ImageScaleBy().execute(image, "bicubic", 1.3)[0].shape == (2, 5, 8, 3)
    with pytest.raises(ValueError, match="cannot be scaled to 0x0 pixels"):
        core_nodes.ImageScaleBy().execute(image, "bilinear", 0.01)


def test_pictures_are_scaled_to_a_size_and_a_side_of_0_follows_the_other():
    image, scale = torch.rand(2, 4, 6, 3), core_nodes.ImageScale().execute
    (wide,) = scale(image, "nearest-exact", 12, 0, "disabled")
    assert torch.equal(wide, image.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert scale(image, "area", 0, 8, "disabled")[0].shape == (2, 8, 12, 3)
    assert scale(image, "bicubic", 0, 0, "disabled")[0] is image
    torch.testing.assert_close(scale(image, "bicubic", 6, 4, "disabled")[0], image)
