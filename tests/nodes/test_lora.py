"""Load LoRA (VD) without ComfyUI: what it draws and reads is what merged weights give."""

import logging

import pytest
import torch
from lora_files import KEYS, values
from node_calls import draw, text
from safetensors.torch import save_file

from vd_core.checkpoints.convert import convert

STRENGTH = 0.1


@pytest.fixture
def lora(models, tmp_path, monkeypatch):
    """Return a function that puts the LoRA of a naming beside the model, and returns its name."""
    (tmp_path / "tiny.safetensors").symlink_to(models / "tiny.safetensors")
    monkeypatch.setenv("VD_MODELS", str(tmp_path))

    def write(naming: str) -> str:
        save_file(values(naming), tmp_path / f"{naming}.safetensors")
        return f"{naming}.safetensors"

    return write


@pytest.mark.parametrize("naming", KEYS)
def test_it_is_the_merged_model(naming, nodes, loaded, lora, tmp_path):
    name, merged = lora(naming), tmp_path / "merged.safetensors"
    changed = dict(loaded)
    changed["image_model"], changed["clip"] = nodes["VD_LoadLora"](
        model=loaded["image_model"], lora=name, strength=STRENGTH, clip=loaded["clip"]
    )
    convert(tmp_path / "tiny.safetensors", merged, dtype=torch.float32, loras=[(tmp_path / name, STRENGTH)])
    expected = dict(loaded)
    expected["image_model"], _ = nodes["VD_LoadImageModel"](model=merged.name)
    (expected["clip"],) = nodes["VD_LoadClip"](model=merged.name)
    for ours, theirs in zip(text(nodes, changed), text(nodes, expected), strict=True):
        assert torch.equal(ours[0][0], theirs[0][0])
    result = draw(nodes, changed, text(nodes, changed))
    assert torch.equal(result, draw(nodes, expected, text(nodes, expected)))
    assert not torch.equal(result, draw(nodes, loaded, text(nodes, loaded)))


def test_two_in_a_row_add_up_and_the_loaded_model_stays(nodes, loaded, lora):
    before = draw(nodes, loaded, text(nodes, loaded))
    name = lora("kohya")
    there = nodes["VD_LoadLora"](model=loaded["image_model"], lora=name, strength=STRENGTH)[0]
    back, clip = nodes["VD_LoadLora"](model=there, lora=name, strength=-STRENGTH)
    assert clip is None
    changed, result = (
        draw(nodes, {**loaded, "image_model": model}, text(nodes, loaded)) for model in (there, back)
    )
    assert (result - before).norm() < 1e-4 * before.norm() < (changed - before).norm()
    assert torch.equal(draw(nodes, loaded, text(nodes, loaded)), before)


def test_what_it_leaves_out_is_counted_and_named(nodes, loaded, lora, caplog):
    with caplog.at_level(logging.WARNING):
        nodes["VD_LoadLora"](model=loaded["image_model"], lora=lora("kohya"), strength=STRENGTH)
    assert "36 keys that change nothing: lora_te" in caplog.text


def test_a_lora_for_pictures_is_refused_on_the_model_of_texts(nodes, loaded, lora):
    with pytest.raises(ValueError, match="changes none of the layers of this model"):
        nodes["VD_LoadLora"](model=loaded["text_model"], lora=lora("peft"), strength=STRENGTH)


def test_an_absent_file_is_named_before_the_graph_runs(pack, loaded):
    validate = pack.NODE_CLASS_MAPPINGS["VD_LoadLora"].VALIDATE_INPUTS
    assert validate("tiny.safetensors") is True
    assert "no LoRA 'absent.safetensors': put its file into models/loras" in validate("absent.safetensors")
