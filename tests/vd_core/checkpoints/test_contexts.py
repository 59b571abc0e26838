"""Contexts in files, and embeddings of other programs."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vd_core.checkpoints.contexts import load_context, save_context
from vd_core.context import Context, Region

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
    save_context(tmp_path / "a.safetensors", Context("text", UNIT, emphasis=emphasis))
    loaded = load_context(tmp_path / "a.safetensors")
    assert torch.equal(loaded.emphasis, emphasis) and loaded.null_emphasis is None
    with pytest.raises(ValueError, match="save it before it gets the region"):
        save_context(tmp_path / "b.safetensors", Context("text", UNIT, region=Region(end=0.5)))
    save_file({"tokens": UNIT, "emphasis": emphasis[:, 1:].contiguous()}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="c.safetensors does not fit together: The weights of a text context's tokens must be one per"):
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
    with pytest.raises(ValueError, match="has norm 3 where contexts have 1: switch normalise on"):
        load_context(tmp_path / "a.npy", "image")
    torch.testing.assert_close(load_context(tmp_path / "a.npy", "image", normalise=True).tokens, UNIT)


@pytest.mark.parametrize("rows", [3, 5])
def test_global_vectors_of_several_pictures_are_not_one_picture(tmp_path, rows):
    """[3, 160] of CLIP's image_embeds are three pictures, not three tokens of one."""
    vectors = torch.nn.functional.normalize(torch.randn(rows, 160, generator=torch.Generator().manual_seed(0)), dim=-1)
    np.save(tmp_path / "a.npy", vectors.numpy())
    with pytest.raises(ValueError, match=rf"\[{rows}, 1, width\] for the global vectors of {rows}"):
        load_context(tmp_path / "a.npy", "image")
    np.save(tmp_path / "b.npy", vectors[:, None].numpy())
    assert load_context(tmp_path / "b.npy", "image").tokens.shape == (rows, 1, 160)


def test_texts_are_not_normalised_and_large_tokens_refused(tmp_path):
    np.save(tmp_path / "a.npy", UNIT.numpy())
    with pytest.raises(ValueError, match="normalise is for pictures"):
        load_context(tmp_path / "a.npy", "text", normalise=True)
    np.save(tmp_path / "b.npy", 20 * UNIT.numpy())
    with pytest.raises(ValueError, match="mean norm of .* divide each sample's by the norm of the end token"):
        load_context(tmp_path / "b.npy", "text")
    np.save(tmp_path / "c.npy", 0 * UNIT.numpy())
    with pytest.raises(ValueError, match="is zero, so its tokens cannot be normalised"):
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
