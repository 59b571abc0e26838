"""Contexts in files, and embeddings of other programs."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vd_core.checkpoints.contexts import load_context, save_context
from vd_core.context import Context, Region, average

TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
UNIT = TOKENS / TOKENS[:, :1].norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("null", [None, -UNIT])
@pytest.mark.parametrize("kind", ["text", "image"])
def test_what_is_saved_is_loaded(tmp_path, kind, null):
    save_context(tmp_path / "a.safetensors", Context(kind, UNIT, null))
    loaded = load_context(tmp_path / "a.safetensors")
    assert loaded.kind == kind and torch.equal(loaded.tokens, UNIT)
    assert loaded.null is None if null is None else torch.equal(loaded.null, null)


def test_weights_of_tokens_are_kept_and_regions_refused(tmp_path):
    emphasis = torch.tensor([[1.0, 0, 2, 1, 1]])
    save_context(tmp_path / "a.safetensors", Context("text", UNIT, token_weights=emphasis))
    loaded = load_context(tmp_path / "a.safetensors")
    assert torch.equal(loaded.token_weights, emphasis) and loaded.null_token_weights is None
    with pytest.raises(ValueError, match="save it before it gets the region"):
        save_context(tmp_path / "b.safetensors", Context("text", UNIT, region=Region(end=0.5)))
    save_file({"tokens": UNIT, "emphasis": emphasis[:, 1:].contiguous()}, tmp_path / "c.safetensors")
    with pytest.raises(
        ValueError, match=r"c.safetensors holds weights of tokens \[1, 4\] where \[1 or 2, 5\] are needed"
    ):
        load_context(tmp_path / "c.safetensors", "text")


def test_arrays_and_bare_tensors_need_a_kind(tmp_path):
    np.save(tmp_path / "a.npy", TOKENS[0].numpy().astype(np.float64))
    torch.save(TOKENS[0].half(), tmp_path / "a.pt")
    for name in ("a.npy", "a.pt"):
        with pytest.raises(ValueError, match="choose text or image"):
            load_context(tmp_path / name)
        assert torch.allclose(load_context(tmp_path / name, "text").tokens, TOKENS[:1], atol=2e-3)


def test_pictures_must_be_normalised_as_clip_contexts_are(tmp_path):
    np.save(tmp_path / "a.npy", 3 * UNIT.numpy())
    with pytest.raises(ValueError, match="has norm 3 where CLIP's has 1: divide .* normalise=True"):
        load_context(tmp_path / "a.npy", "image")
    torch.testing.assert_close(load_context(tmp_path / "a.npy", "image", normalise=True).tokens, UNIT)


@pytest.mark.parametrize("rows", [3, 5])
def test_global_vectors_of_several_pictures_are_not_one_picture(tmp_path, rows):
    """[3, 160] of CLIP's image_embeds are three pictures, not three tokens of one."""
    vectors = torch.nn.functional.normalize(
        torch.randn(rows, 160, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    np.save(tmp_path / "a.npy", vectors.numpy())
    with pytest.raises(ValueError, match=rf"\[{rows}, 1, width\] for the global vectors of {rows}"):
        load_context(tmp_path / "a.npy", "image")
    np.save(tmp_path / "b.npy", vectors[:, None].numpy())
    assert load_context(tmp_path / "b.npy", "image").tokens.shape == (rows, 1, 160)


def test_predicted_pictures_need_not_be_exact(tmp_path):
    np.save(tmp_path / "a.npy", 0.7 * UNIT.numpy())
    assert torch.equal(load_context(tmp_path / "a.npy", "image").tokens, 0.7 * UNIT)


def test_saved_averages_of_pictures_come_back(tmp_path):
    """Their global tokens are shorter than 1."""
    mixed = average(Context("image", UNIT), Context("image", -UNIT), 0.4)
    assert mixed.tokens[0, 0].norm() == pytest.approx(0.2)
    save_context(tmp_path / "a.safetensors", mixed)
    assert torch.equal(load_context(tmp_path / "a.safetensors").tokens, mixed.tokens)


def test_unconditional_tokens_of_other_encoders_are_read(tmp_path):
    """anime_ug.pth of Prompt-Free Diffusion: [77, 768], norms of 27 to 29, the first 43.8."""
    tokens = torch.nn.functional.normalize(torch.randn(77, 768), dim=-1) * 28
    torch.save(tokens, tmp_path / "anime_ug.pth")
    assert torch.equal(load_context(tmp_path / "anime_ug.pth", "text").tokens[0], tokens)


def test_what_cannot_be_normalised_is_said(tmp_path):
    np.save(tmp_path / "a.npy", UNIT.numpy())
    with pytest.raises(ValueError, match="normalise is for pictures"):
        load_context(tmp_path / "a.npy", "text", normalise=True)
    np.save(tmp_path / "c.npy", 0 * UNIT.numpy())
    with pytest.raises(ValueError, match="is zero or nearly so: its tokens cannot be normalised"):
        load_context(tmp_path / "c.npy", "image", normalise=True)


def write(path, content):
    if path.suffix == ".npy":
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("a.npy", np.array([{}], dtype=object), "is no array of numbers"),
        ("a.npy", np.arange(6).reshape(2, 3), "holds values of type int64"),
        ("a.pt", torch.zeros(4), r"holds \[4\] torch.float32 where tokens"),
        ("a.pt", torch.zeros(0, 4), r"holds \[0, 4\] torch.float32 where tokens"),
        ("a.pt", torch.full((2, 3), torch.nan), "not all finite"),
        ("a.pt", {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "none is called tokens"),
        ("a.pt", pickle.dumps(print), "refused and not run"),
    ],
)
def test_what_is_no_context_is_refused(tmp_path, name, content, sentence):
    write(tmp_path / name, content)
    with pytest.raises(ValueError, match=sentence):
        load_context(tmp_path / name, "text")


def test_a_missing_file_and_a_wrong_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_context(tmp_path / "none.npy", "text")
    save_context(tmp_path / "a.safetensors", replace(Context("image", UNIT), weight=2))
    with pytest.raises(ValueError, match="of kind image, not text"):
        load_context(tmp_path / "a.safetensors", "text")


@pytest.mark.parametrize("scale", [1e-30, 1e-42])
def test_what_is_nearly_zero_is_not_normalised(tmp_path, scale):
    np.save(tmp_path / "a.npy", (UNIT.double() * scale).numpy())
    with pytest.raises(ValueError, match="is zero or nearly so: its tokens cannot be normalised"):
        load_context(tmp_path / "a.npy", "image", normalise=True)


@pytest.mark.parametrize(
    "more, kind, sentence",
    [
        (
            {"emphasis": torch.ones(5, 5)},
            "text",
            r"weights of tokens \[5, 5\] where \[1 or 2, 5\] are needed",
        ),
        ({"null_emphasis": torch.ones(1, 5)}, "text", r"null_emphasis\), but no such tokens \(null\)"),
        ({"emphasis": torch.full((1, 5), torch.nan)}, "text", "must be numbers ≥ 0"),
        ({}, "", "says that it holds a context of kind '': kinds are words"),
        ({}, "te\x1b[2Jxt\n", r"of kind 'te\?\[2Jxt\?': kinds are words"),
        ({}, "a.b", "of kind 'a.b': kinds are words"),
    ],
)
def test_what_does_not_belong_to_a_context_is_refused(tmp_path, more, kind, sentence):
    save_file({"tokens": UNIT, **more}, tmp_path / "a.safetensors", {"vd_kind": kind})
    with pytest.raises(ValueError, match=sentence):
        load_context(tmp_path / "a.safetensors")


def test_whole_numbers_and_truth_values_are_weights_of_tokens(tmp_path):
    for weights in (torch.tensor([[1, 0, 2, 1, 1]]), torch.tensor([[True, False, True, True, True]])):
        save_file({"tokens": UNIT, "emphasis": weights}, tmp_path / "a.safetensors", {"vd_kind": "text"})
        assert torch.equal(load_context(tmp_path / "a.safetensors").token_weights, weights.float())


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path):
    np.savez(tmp_path / "a.npz", UNIT.numpy())
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(
        ValueError, match="it is an archive of numpy's arrays: save the one that is meant as .npy"
    ):
        load_context(tmp_path / "a.npy", "text")
    np.save(tmp_path / "b.npy", UNIT.numpy())
    (tmp_path / "b.npy").rename(tmp_path / "b.pt")
    assert torch.equal(load_context(tmp_path / "b.pt", "text").tokens, UNIT)


def test_a_header_of_an_array_that_claims_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
    os.truncate(path, 1 << 30)  # which takes no room on the disk
    with pytest.raises(ValueError, match="its header claims 1073741824 bytes"):
        load_context(path, "text")


def test_a_context_does_not_change_with_its_file(tmp_path):
    save_context(tmp_path / "a.safetensors", Context("text", UNIT))
    loaded = load_context(tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(bytes(40))
    assert torch.equal(loaded.tokens, UNIT)
