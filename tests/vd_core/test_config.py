"""Sizes that travel in files: what they may be, each and together."""

import json

import pytest

from vd_core.config import MOST_LAYERS, VDConfig


def changed(config: VDConfig, path: str, value: object) -> dict:
    """Return the plain sizes of a model with another value at a dotted path."""
    sizes = json.loads(json.dumps(config.to_dict()))
    place = sizes
    *names, last = path.split(".")
    for name in names:
        place = place[name]
    place[last] = value
    return sizes


@pytest.mark.parametrize("config", [VDConfig(), VDConfig.tiny()])
def test_sizes_come_back(config):
    assert VDConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "path, value, sentence",
    [
        ("diffuser.num_heads", 0, "diffuser.num_heads is 0, which no model has"),
        ("diffuser.num_heads", 3, "a multiple of 32 is needed that 3 heads divide"),
        ("diffuser.model_channels", 40, "a multiple of 32 is needed"),
        ("diffuser.channel_mult", [1], "do not have one value per level"),
        ("diffuser.channel_mult", [], "do not have one value per level"),
        ("diffuser.num_res_blocks", [48, 48], f"about 792 layers where a model has at most {MOST_LAYERS}"),
        ("diffuser.context", {}, "diffuser.context has 0 kinds where a model has 1 to 16"),
        ("diffuser.context", {f"kind_{n}": 8 for n in range(17)}, "diffuser.context has 17 kinds"),
        ("diffuser.data.image.layers", "3d", "which is neither 2d nor 0d"),
        ("diffuser.data.text.second_dim", 0, "second_dim is 0, which no model has"),
        ("clip.text.heads", 5, "clip.text.width is 32, which 5 heads do not divide"),
        ("clip.vision.positions", 18, "are not the patches of its pictures and one more"),
        ("clip.text.layers", 49, "clip.text.layers is 49, which no model has"),
        ("text_vae.max_tokens", 0, "text_vae.max_tokens is 0, which no model has"),
        ("text_vae.max_tokens", 131072, "more tokens than its encoder and decoder have positions"),
        ("text_vae.max_pieces", 89, "more tokens than its encoder and decoder have positions"),
        ("image_vae.channel_mult", [], "image_vae has no levels"),
        ("image_vae.channels", 1 << 20, "image_vae.channels is 1048576, which no model has"),
        ("schedule.timesteps", 0, "schedule.timesteps is 0, which no model has"),
        ("schedule.beta_end", float("nan"), "betas must rise"),
    ],
)
def test_sizes_that_no_model_has(path, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        VDConfig.from_dict(changed(VDConfig.tiny(), path, value))


@pytest.mark.parametrize("kind", ["", "a.b", "forward", "keys", "\x1b[31mx\n", "Image", "x" * 40])
def test_kinds_are_words(kind):
    with pytest.raises(ValueError, match="kinds are words like text or image") as error:
        VDConfig.from_dict(changed(VDConfig.tiny(), "diffuser.context", {kind: 40}))
    assert str(error.value).isprintable()
