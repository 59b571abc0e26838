"""Colour adjustment, and pictures between tensors and PIL."""

import numpy as np
import pytest
import torch
from PIL import Image

from vd_core import load, pictures
from vd_core.color import match_color
from vd_core.pictures import crop_square, from_pil, resize, resize_and_crop, to_pil, to_uint8


def noise(*shape, low=0.0, high=1.0, seed=0):
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def statistics(images):
    pixels = images.flatten(2)
    return torch.stack([pixels.mean(dim=2), pixels.std(dim=2)])


def test_colours_are_those_of_the_reference():
    images, reference = noise(2, 3, 8, 12), noise(1, 3, 20, 10, low=0.4, high=0.6, seed=1)
    torch.testing.assert_close(
        statistics(match_color(images, reference)), statistics(reference).expand(2, 2, 3)
    )


def test_one_reference_for_each_picture():
    images, references = noise(2, 3, 8, 12), noise(2, 3, 8, 12, low=0.4, high=0.6, seed=1)
    alone = torch.cat([match_color(images[i, None], references[i, None]) for i in range(2)])
    torch.testing.assert_close(match_color(images, references), alone)
    assert not torch.allclose(alone[1], match_color(images, references[:1])[1])


def test_a_picture_keeps_its_own_colours():
    images = noise(1, 3, 8, 12)
    torch.testing.assert_close(match_color(images, images), images)


def test_adjusted_colours_stay_in_range():
    dark_and_one_white = torch.zeros(1, 3, 8, 8)
    dark_and_one_white[..., 0, 0] = 1
    out = match_color(dark_and_one_white, noise(1, 3, 8, 8))
    assert out.min() >= 0 and out.max() == 1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [8, 512])
def test_a_flat_picture_takes_the_mean(value, size):
    reference = noise(1, 3, 16, 16)
    out = match_color(torch.full((1, 3, size, size), value), reference)
    assert torch.equal(out, reference.mean(dim=(2, 3), keepdim=True).expand_as(out))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reference", [torch.full((1, 3, 4, 4), 0.25), torch.full((1, 3, 1, 1), 0.25)])
def test_a_flat_reference_makes_a_flat_picture(reference):
    out = match_color(noise(1, 3, 8, 8), reference)
    torch.testing.assert_close(out, torch.full_like(out, 0.25))


@pytest.mark.parametrize(
    "images, reference",
    [
        ((3, 3, 8, 8), (2, 3, 8, 8)),
        ((3, 8, 8), (1, 3, 8, 8)),
        ((1, 3, 8, 8), (1, 1, 8, 8)),
        ((1, 3, 8, 8), (1, 3, 0, 8)),
    ],
)
def test_references_that_do_not_fit_are_refused(images, reference):
    with pytest.raises(ValueError, match="one reference, or one per picture"):
        match_color(torch.zeros(images), torch.zeros(reference))


def test_8_bit_is_truncated_and_clamped():
    values = torch.tensor([-0.5, 0.0, 0.999 / 255, 1.001 / 255, 0.999, 1.0, 1.5])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_to_pil_and_back(channels, mode):
    images = (
        torch.randint(0, 256, (2, channels, 5, 7), generator=torch.Generator().manual_seed(0)).float() / 255
    )
    pictures = to_pil(images)
    assert [(picture.size, picture.mode) for picture in pictures] == [((7, 5), mode)] * 2
    # x / 255 * 255 may fall below x
    torch.testing.assert_close(from_pil(pictures), images, rtol=0, atol=1 / 255 + 1e-6)
    assert torch.equal(from_pil(to_pil(from_pil(pictures))), from_pil(pictures))


@pytest.mark.parametrize(
    "mode, method", [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_resize_is_pils(mode, method):
    images = noise(2, 3, 12, 20)
    out = resize(images, 9, 31, mode)
    expected = from_pil([picture.resize((31, 9), method) for picture in to_pil(images)])
    assert out.shape == (2, 3, 9, 31) and torch.equal(out, expected)


def test_resize_keeps_the_dtype():
    assert resize(noise(1, 1, 4, 4).half(), 8, 8).dtype == torch.float16


@pytest.mark.parametrize("height, width", [(16, 48), (48, 16), (7, 33), (33, 7), (16, 16), (40, 41)])
def test_the_shortest_edge_fills_the_square(height, width):
    assert resize_and_crop(noise(1, 3, height, width), 16).shape == (1, 3, 16, 16)


def test_the_crop_is_central():
    """A square in the middle of a wide picture, already of the right height, comes out as it went in."""
    images = noise(1, 3, 16, 40)
    assert torch.equal(resize_and_crop(images, 16), from_pil(to_pil(images))[..., 12:28])


def test_of_a_thin_picture_only_the_middle_is_enlarged(monkeypatch):
    """In whole it would take gigabytes: 100,000 pixels become 22 million for CLIP."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 4000, 3), dtype=np.uint8))
    whole = np.asarray(crop_square(picture, 224)).astype(int)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1_000_000)
    sizes, resize_picture = [], Image.Image.resize

    def watched(self, size, *args, **options):
        sizes.append(size)
        return resize_picture(self, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    middle = np.asarray(crop_square(picture, 224)).astype(int)
    assert sizes == [(224, 224)] and np.abs(middle - whole).max() <= 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8), (1, 4, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8)])
def test_shapes_that_are_no_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="Pictures must be"):
        to_pil(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_no_picture(value):
    with pytest.raises(ValueError, match="not finite numbers"):
        to_pil(torch.full((1, 3, 8, 8), value))


def test_pictures_of_pil_are_taken_one_or_several():
    red = Image.new("RGB", (4, 2), "red")
    assert from_pil(red).shape == (1, 3, 2, 4) and torch.equal(from_pil((red, red))[1:], from_pil(red))


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        ([], r"a PIL picture or a list of them, got \[\]"),
        ("red.png", "a PIL picture or a list of them, got 'red.png'"),
        ([Image.new("RGB", (4, 2)), Image.new("RGB", (2, 2))], "of one size, .*got RGB 2x2, RGB 4x2"),
        (Image.new("RGBA", (4, 2)), "all RGB or all L, got RGBA 4x2: use convert and resize"),
    ],
)
def test_what_no_tensor_can_be_made_of_is_refused(pictures, sentence):
    with pytest.raises(ValueError, match=sentence):
        from_pil(pictures)


@pytest.mark.parametrize("pictures", [Image.new("RGB", (8, 8)), [Image.new("RGB", (8, 8))], np.zeros(3)])
def test_where_a_tensor_is_needed_from_pil_is_named(models, pictures):
    vd = load(models / "tiny.safetensors", parts=["clip_vision", "image_vae"])
    for call in (vd.encode_image, vd.image_vae.encode, to_pil):
        with pytest.raises(
            ValueError, match="Pictures must be a tensor .* got .*: from_pil makes one of PIL"
        ):
            call(pictures)
