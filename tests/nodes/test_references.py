"""Nodes of references, joined contexts and contexts in files, on the tiny model."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from node_calls import draw, picture, text

from seecoder.checkpoints import collect_released_state
from seecoder.config import SeeCoderConfig
from seecoder.model import SeeCoder


class Encoder:
    """A SEECODER of 40-wide tokens, those of the tiny model, that says what it was shown."""

    global_tokens = 4

    def encode(self, images):
        self.images = images
        return torch.arange(1.0, 8.0)[None, :, None].expand(len(images), 7, 40).clone()


@pytest.fixture
def encoder():
    return Encoder()


@pytest.fixture
def encode(nodes, encoder):
    def call(image=None, **inputs):
        image = torch.full((1, 8, 12, 3), 0.5) if image is None else image
        positive, negative = nodes["SeeCoder_Encode"](seecoder=encoder, image=image, **inputs)
        return positive[0][0], negative[0][0]

    return call


def test_plain_use_gives_the_tokens_as_text_and_zeros_against_them(encode, nodes, encoder):
    positive, negative = encode()
    assert (
        torch.equal(positive, encoder.encode(torch.zeros(1)))
        and not negative.any()
        and negative.shape == positive.shape
    )
    assert nodes["SeeCoder_Encode"](seecoder=encoder, image=torch.zeros(1, 8, 8, 3))[0][0][1][
        "vd_layout"
    ] == (("text", 7, 1.0, None, 1.0),)


def test_weights_and_strength(encode):
    plain, _ = encode()
    weighted, _ = encode(global_weight=0.5, local_weight=2.0)
    torch.testing.assert_close(weighted, torch.cat([plain[:, :4] * 0.5, plain[:, 4:] * 2], dim=1))
    given = [[torch.ones(1, 3, 40), {}]]
    half, null = encode(strength=0.5, unconditional=given)
    assert torch.equal(null[0, :, 0], torch.tensor([1.0, 1, 1, 0, 0, 0, 0]))
    torch.testing.assert_close(half, null + 0.5 * (plain - null))
    assert torch.equal(encode(strength=0, unconditional=given)[0], null)


def test_pictures_of_every_kind_reach_the_encoder_as_rgb(encode, encoder):
    grey = torch.rand(2, 5, 1, 1)
    encode(grey)
    assert torch.equal(encoder.images, grey.movedim(-1, 1).expand(2, 3, 5, 1))
    encode(torch.rand(1, 6, 7, 4).half())
    assert encoder.images.shape == (1, 3, 6, 7) and encoder.images.dtype == torch.float32


def test_large_pictures_are_scaled_down(encode, encoder):
    encode(torch.rand(1, 30, 60, 3), longest_side=16)
    assert encoder.images.shape == (1, 3, 8, 16)
    encode(torch.rand(1, 30, 60, 3), longest_side=0)
    assert encoder.images.shape == (1, 3, 30, 60)


def test_a_mask_leaves_out_and_crops(encode, encoder):
    image, mask = torch.zeros(1, 8, 12, 3), torch.zeros(1, 8, 12)
    image[:, :, :6, 0], mask[:, :, 6:] = 1, 1
    encode(image, mask=mask)
    torch.testing.assert_close(
        encoder.images, torch.tensor([1.0, 0, 0])[None, :, None, None].expand(1, 3, 8, 12)
    )
    encode(image, mask=mask, crop=True)
    assert encoder.images.shape == (1, 3, 8, 6)


def test_its_tokens_condition_versatile_diffusion(nodes, loaded, encoder, monkeypatch):
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda images: encode(images) / 25)  # norms of about 1
    inputs = {"seecoder": encoder, "image": torch.rand(2, 8, 8, 3), "model": loaded["image_model"]}
    contexts = nodes["SeeCoder_Encode"](**inputs)
    assert draw(nodes, loaded, contexts).shape == (2, 4, 8, 8)


@pytest.mark.parametrize("position_aware", [False, True])
def test_files_are_loaded(nodes, tmp_path, monkeypatch, position_aware):
    seecoder = SeeCoder(SeeCoderConfig.tiny(position_aware))
    torch.save(collect_released_state(seecoder), tmp_path / "see.pth")
    monkeypatch.setenv("VD_MODELS", str(tmp_path))
    (found,) = nodes["SeeCoder_Load"](model="see.pth")
    images = torch.rand(2, 3, 21, 34)
    with torch.inference_mode():
        assert torch.equal(found.encode(images)[1:], seecoder(images[1:]))


def test_joined_pictures_are_the_official_apps_multi_context(nodes, loaded):
    from vd_core.context import Context, join

    first, second = picture(nodes, loaded), picture(nodes, loaded, weight=0.5, focus=0.2)
    both = nodes["VD_Join"](
        positive_1=first[0],
        negative_1=first[1],
        positive_2=second[0],
        negative_2=second[1],
        mode="concatenate",
        share=0.5,
    )
    expected = join([Context("image", side[0][0][0]) for side in (first, second)])
    assert torch.equal(both[0][0][0], expected.tokens) and both[0][0][1]["vd_layout"] == (
        ("image", expected.tokens.shape[1], 1.0, None, 1.0),
    )
    assert draw(nodes, loaded, both).shape == (2, 4, 8, 8)


def parts(*entries):
    """Return a layout of (kind, count, ratio) and perhaps a region each."""
    fields = ("kind", "count", "ratio", "region")
    return tuple(
        SimpleNamespace(**dict(zip(fields, (*entry, None), strict=False)), guidance=1.0) for entry in entries
    )


def join(nodes, first, second, mode="average", share=0.25):
    one, other = ([[[tokens, options]]] * 2 for tokens, options in (first, second))
    return nodes["VD_Join"](
        positive_1=one[0], negative_1=one[1], positive_2=other[0], negative_2=other[1], mode=mode, share=share
    )[0][0]


def test_an_average_fills_the_shorter_one_up_with_zeros(nodes):
    tokens, options = join(nodes, (torch.ones(1, 2, 3), {}), (torch.ones(2, 4, 3), {"strength": 2}))
    assert torch.equal(tokens[:, :, 0], torch.tensor([[1.0, 1.0, 0.25, 0.25]] * 2)) and options == {
        "strength": 2
    }


@pytest.mark.parametrize(
    "layouts, sentence",
    [
        (
            ([("text", 2, 1.0)], [("image", 2, 1.0)]),
            "Only contexts of one kind can be joined, got image and text",
        ),
        (([("text", 1, 0.5), ("text", 1, 0.5)], [("text", 2, 1.0)]), "Only contexts of one kind"),
        (
            ([("text", 2, 1.0, {"end": 0.5})], [("text", 2, 1.0)]),
            "with a region or a guidance of its own cannot be joined",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(nodes, pack, layouts, sentence):
    region = import_module(f"{pack.__name__}.vd_core.regions").Region  # the pack has a vd_core of its own
    layouts = [
        [(*entry[:3], *(region(**options) for options in entry[3:])) for entry in layout]
        for layout in layouts
    ]
    with pytest.raises(ValueError, match=sentence):
        join(nodes, *((torch.ones(1, 2, 3), {"vd_layout": parts(*layout)}) for layout in layouts))


def test_a_saved_context_comes_back(nodes, loaded, tmp_path, monkeypatch):
    context = picture(nodes, loaded, unconditional="black")
    saved = nodes["VD_SaveContext"](
        positive=context[0], negative=context[1], filename_prefix="a/b", output_directory=str(tmp_path)
    )
    assert saved["ui"]["text"] == [str(tmp_path / "a" / "b_00001_.safetensors")]
    monkeypatch.setenv("VD_MODELS", str(tmp_path))
    again = nodes["VD_LoadContext"](file="a/b_00001_.safetensors")
    for before, after in zip(context, again, strict=True):
        assert torch.equal(before[0][0], after[0][0]) and before[0][1] == after[0][1]


def test_refusals(nodes, loaded, encode, encoder, tmp_path):
    words = text(nodes, loaded)
    away = {
        "positive": words[0],
        "negative": words[1],
        "filename_prefix": "../a",
        "output_directory": str(tmp_path),
    }
    blend = [[words[0][0][0], {"vd_layout": parts(("text", 40, 0.5), ("text", 37, 0.5))}]]
    for action, sentence in (
        (lambda: encode(torch.rand(1, 8, 8, 2)), "grey, RGB or RGBA, got"),
        (lambda: encode(mask=torch.ones(1, 8, 12)), "leaves nothing of a picture"),
        (lambda: encode(mask=torch.zeros(3, 8, 12)), "3 masks for 1 pictures"),
        (lambda: encode(unconditional=[[torch.zeros(1, 8, 40), {}]]), "more or wider than SeeCoder's"),
        (
            lambda: nodes["VD_SaveContext"](positive=blend, negative=blend, output_directory=str(tmp_path)),
            "a blend of 2: save them before",
        ),
        (lambda: nodes["VD_SaveContext"](**away), "leaves the output folder"),
        (lambda: nodes["PFD_LoadDiffuser"](model="tiny.safetensors"), "needs ComfyUI"),
    ):
        with pytest.raises(ValueError, match=sentence):
            action()
    assert not list(tmp_path.iterdir())
