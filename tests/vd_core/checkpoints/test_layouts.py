"""Every layout gives the same model back, whole or in parts, in any precision."""

import json
import os
from pathlib import Path

import pytest
import torch
from checkpoint_files import (
    CONFIG,
    IMAGE_VARIATION,
    VOCABULARIES,
    assert_same,
    write_deprecated,
    write_diffusers,
    write_diffusers_2022,
    write_official,
    write_official_parts,
    write_open_clip,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vd_core.checkpoints import formats, write
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import collect_state, list_parts
from vd_core.checkpoints.read import read
from vd_core.checkpoints.write import export
from vd_core.context import Context


@pytest.mark.parametrize("layout", [write_official, write_official_parts, write_deprecated, write_open_clip])
def test_every_layout_gives_the_model_back(layout, model, state, tmp_path):
    loaded = load(layout(state, tmp_path), config=CONFIG, vocabularies=VOCABULARIES)
    assert_same(loaded, model)
    assert not any(
        module.training
        for part in (loaded.diffuser, loaded.clip, loaded.text_vae)
        for module in part.modules()
    )


@pytest.mark.parametrize("layout", [write_diffusers, write_diffusers_2022])
def test_diffusers_folder(layout, model, state, tmp_path):
    loaded = load(layout(state, tmp_path), config=CONFIG)
    assert "text_vae" not in loaded.parts
    assert_same(loaded, model, without=("text_vae",))


def test_one_unet_of_a_diffusers_folder(model, state, tmp_path):
    (folder,) = write_diffusers(state, tmp_path)
    loaded = load(folder / "text_unet", config=CONFIG)
    x, tokens, t = torch.randn(1, 24), torch.randn(1, 5, 40), torch.tensor([9])
    with torch.no_grad():
        expected = model.diffuser(x, t, [Context("text", tokens)], "text")
        assert torch.equal(loaded.diffuser(x, t, [Context("text", tokens)], "text"), expected)
    assert list(loaded.diffuser.data) == list(loaded.diffuser.context) == ["text"]


def test_open_clip_weights_compute_what_open_clip_computes(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(2)
    vision = {
        "layers": 2,
        "width": 48,
        "head_width": 12,
        "patch_size": 14,
        "image_size": 56,
        "mlp_ratio": 2.0,
    }
    text = {"width": 32, "heads": 4, "layers": 2, "vocab_size": 49408, "mlp_ratio": 2.0}
    theirs = open_clip.CLIP(40, vision, text, quick_gelu=True).eval()
    save_file(theirs.state_dict(), tmp_path / "clip.safetensors")
    clip = load(tmp_path / "clip.safetensors", config=CONFIG).clip
    ids = torch.full((1, 77), 49407)
    ids[0, :4] = torch.tensor([49406, 320, 2368, 539])
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        for ours, expected in (
            (clip.encode_ids(ids)[:, 4], theirs.encode_text(ids, normalize=True)),
            (clip.encode_pixels(pixels)[:, 0], theirs.encode_image(pixels, normalize=True)),
        ):
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_own_file_is_the_whole_model(own, model):
    loaded = load(own)
    assert loaded.config == CONFIG
    assert_same(loaded, model)
    with safe_open(own, "pt") as file:  # readable by the library, with all that others need to know
        assert json.loads(file.metadata()["vd_config"]) == json.loads(json.dumps(CONFIG.to_dict()))
        assert file.metadata()["format"] == "pt"
    assert load_file(own)["vocab.bert"].numpy().tobytes().decode() == VOCABULARIES.bert


@pytest.mark.parametrize("length", range(8))
def test_a_header_length_is_not_taken_for_a_pickle(length, tmp_path):
    """Every second low byte of a header's length: 0x80, the first byte of a pickle, is one of them."""
    for padding in range(32):
        write.write_safetensors(
            tmp_path / "file", {"text_model.a": torch.zeros(1)}, {"note": "x" * 8 * (32 * length + padding)}
        )
        assert list(read(tmp_path / "file").weights) == ["text_model.a"]


def test_training_a_loaded_model_leaves_its_file_alone(own):
    before = own.read_bytes()
    loaded = load(own)
    with torch.no_grad():
        for parameter in loaded.diffuser.parameters():
            parameter.add_(1)
    assert own.read_bytes() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(dtype, state, own, tmp_path):
    half = tmp_path / "half.safetensors"
    convert(own, half, dtype=dtype)
    assert half.stat().st_size < 0.52 * own.stat().st_size
    loaded = collect_state(load(half))
    assert all(torch.equal(loaded[key], tensor.to(dtype).float()) for key, tensor in state.items())
    assert {tensor.dtype for tensor in collect_state(load(own, dtype=dtype)).values()} == {dtype}


def test_only_the_wanted_parts_are_read(own, model, monkeypatch):
    asked = []
    get = formats.LazySafetensors.__getitem__
    monkeypatch.setattr(
        formats.LazySafetensors, "__getitem__", lambda self, key: asked.append(key) or get(self, key)
    )
    loaded = load(own, parts=IMAGE_VARIATION)
    weights = [key for key in asked if not key.startswith("vocab.")]
    assert len(weights) == len(set(weights)) == len(collect_state(loaded))
    assert {part for part in list_parts(CONFIG) for key in weights if key.startswith(f"{part}.")} == {
        "diffuser.time_embed",
        *IMAGE_VARIATION,
    }
    assert (
        "text_vae" not in loaded.parts
        and loaded.clip.text_tower is None
        and list(loaded.diffuser.data) == ["image"]
    )


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_what_was_read_is_let_go_of(ending, state, own, tmp_path, monkeypatch):
    """Files are mapped again for each read: no mapping outlives its tensors, and the values are the same."""
    monkeypatch.setattr(formats, "LET_GO", 10_000)
    path = own
    if ending == "pth":
        path = tmp_path / "kl-f8.pth"
        torch.save(export(state, "kl-f8", CONFIG), path)
    weights, maps = read(path).weights, Path("/proc/self/maps")
    first = weights.weights
    assert sum(float(weights[key].float().sum()) for key in weights) and weights.weights is not first
    del first
    assert not maps.exists() or maps.read_text().count(str(path)) <= 2
    loaded = collect_state(load(path, parts=["image_vae"], config=CONFIG))
    assert loaded and all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


def test_a_part_is_taken_from_the_first_file_that_has_it(own, state, tmp_path):
    other = tmp_path / "kl-f8.pth"
    torch.save({key: tensor + 1 for key, tensor in export(state, "kl-f8", CONFIG).items()}, other)
    key = "image_vae.quant_conv.weight"
    assert torch.equal(collect_state(load([own, other]))[key], state[key])
    assert torch.equal(collect_state(load([other, own]))[key], state[key] + 1)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_model_does_not_change_with_its_file(ending, own, state, tmp_path):
    """Loaded weights are copies: neither writing into the file nor cutting it reaches them."""
    path = own
    if ending == "pth":
        path = tmp_path / "kl-f8.pth"
        torch.save(export(state, "kl-f8", CONFIG), path)
    loaded = collect_state(load(path, parts=["image_vae"], config=CONFIG))
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(bytes(path.stat().st_size - 2000))
        file.truncate(100)
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


def test_a_file_that_changes_while_it_is_read_is_not_read_on(own):
    weights = read(own).weights
    first, second = list(weights)[:2]
    assert weights[first] is not None
    with own.open("r+b") as file:
        file.seek(-10, 2)
        file.write(bytes(10))
    os.utime(own, ns=(1, 1))
    with pytest.raises(
        ValueError, match="own.safetensors was changed while it was being read; load it again"
    ):
        weights[second]


def test_weights_of_eight_bits_are_converted_and_loaded(own, state, tmp_path):
    """As some publish them: stored in 8 bits, computed in 32."""
    eight = {
        key: tensor.to(torch.float8_e4m3fn) for key, tensor in state.items() if key.startswith("image_vae.")
    }
    save_file(eight, tmp_path / "eight.safetensors", {"vd_config": json.dumps(CONFIG.to_dict())})
    convert(tmp_path / "eight.safetensors", tmp_path / "same.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "same.safetensors").values()} == {
        torch.float8_e4m3fn
    }
    convert(tmp_path / "eight.safetensors", tmp_path / "half.safetensors", dtype=torch.float16)
    for path in ("same.safetensors", "half.safetensors"):
        loaded = collect_state(load(tmp_path / path))
        assert all(torch.equal(loaded[key], tensor.float()) for key, tensor in eight.items())
