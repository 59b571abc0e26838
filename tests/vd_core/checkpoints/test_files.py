"""Vocabularies beside files, writing, converting, and the two commands."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from checkpoint_files import (
    CONFIG,
    VOCABULARIES,
    assert_same,
    change,
    put_vocabularies,
)
from safetensors.torch import load_file

from vd_core.__main__ import main
from vd_core.checkpoints import vocabularies as vocabularies_module
from vd_core.checkpoints import write
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import list_parts
from vd_core.checkpoints.report import inspect
from vd_core.checkpoints.write import export, save_model


@pytest.fixture
def optimus_file(state, tmp_path, monkeypatch):
    """optimus-vae.pth in a folder of its own, without a Hugging Face cache."""
    monkeypatch.setattr(vocabularies_module, "try_to_load_from_cache", lambda repository, file: None)
    (tmp_path / "models").mkdir()
    torch.save(export(state, "optimus", CONFIG), tmp_path / "models" / "optimus-vae.pth")
    return tmp_path / "models" / "optimus-vae.pth"


def test_vocabularies_are_found(optimus_file, model, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError,
        match=r"bert-base-cased-vocab.txt .* gpt2-vocab.json and gpt2-merges.txt .* into .*models",
    ):
        load(optimus_file, config=CONFIG)
    expected = model.text_vae.encode(["a cat"])

    named = put_vocabularies(
        tmp_path / "named", ("bert-base-cased/vocab.txt", "gpt2/vocab.json", "gpt2/merges.txt")
    )
    assert torch.equal(
        load(optimus_file, config=CONFIG, vocabularies=named).text_vae.encode(["a cat"]), expected
    )

    cache = put_vocabularies(tmp_path / "cache", ("vocab.txt", "vocab.json", "merges.txt"))
    monkeypatch.setattr(
        vocabularies_module, "try_to_load_from_cache", lambda repository, file: str(cache / file)
    )
    assert torch.equal(load(optimus_file, config=CONFIG).text_vae.encode(["a cat"]), expected)
    monkeypatch.setattr(vocabularies_module, "try_to_load_from_cache", lambda repository, file: None)

    put_vocabularies(optimus_file.parent)
    assert torch.equal(load(optimus_file, config=CONFIG).text_vae.encode(["a cat"]), expected)


def test_a_vocabulary_of_another_size_is_not_taken(optimus_file):
    put_vocabularies(optimus_file.parent)
    (optimus_file.parent / "bert-base-cased-vocab.txt").write_text("[PAD]\n")
    with pytest.raises(FileNotFoundError, match="needs its public vocabularies"):
        load(optimus_file, config=CONFIG)


# Writing --------------------------------------------------------------------------------


def test_a_failing_write_leaves_nothing(own, model, tmp_path, monkeypatch):
    before, calls, data = own.read_bytes(), [], write.to_bytes

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 20:
            raise OSError("No space left on device")
        return data(*arguments)

    monkeypatch.setattr(write, "to_bytes", failing)
    with pytest.raises(OSError, match="No space left"):
        save_model(own, model, VOCABULARIES)
    assert own.read_bytes() == before
    assert os.listdir(tmp_path) == [own.name]


def test_a_file_may_replace_the_one_it_was_loaded_from(own, model):
    save_model(own, load(own), VOCABULARIES)
    assert_same(load(own), model)


def test_write_refusals(model, tmp_path):
    with pytest.raises(
        FileNotFoundError, match="There is no folder .*nowhere to write model.safetensors into"
    ):
        save_model(tmp_path / "nowhere" / "model.safetensors", model)
    with pytest.raises(
        ValueError, match="big has values beyond what float16 can hold; choose bfloat16 or float32"
    ):
        write.write_safetensors(
            tmp_path / "model.safetensors", {"big": torch.tensor([1e6])}, {}, torch.float16
        )
    with pytest.raises(ValueError, match="There is no layout sd; there are vd_core, official,"):
        export({}, "sd", CONFIG)
    with pytest.raises(ValueError, match="The layout kl-f8 has no place for any of these weights"):
        export({"clip_text.a": torch.zeros(1)}, "kl-f8", CONFIG)
    assert os.listdir(tmp_path) == []


def test_every_kind_of_tensor_is_written(tmp_path):
    tensors = {
        "scalar": torch.tensor(2.0),
        "none": torch.zeros(0, 3),
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    tensors |= {
        "strided": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "long": torch.arange(3),
    }
    write.write_safetensors(tmp_path / "file.safetensors", tensors, {"a": "b"})
    back = load_file(tmp_path / "file.safetensors")
    assert all(
        torch.equal(back[key], tensor) and back[key].dtype == tensor.dtype for key, tensor in tensors.items()
    )


# Command line --------------------------------------------------------------------------------


def test_convert_and_inspect(own, model, state, tmp_path, capsys):
    official, back = tmp_path / "official.safetensors", tmp_path / "back.safetensors"
    assert main(["convert", str(own), str(official), "--layout", "official"]) == 0
    assert load_file(official).keys() == export(state, "official", CONFIG).keys()
    assert_same(load(official, config=CONFIG, vocabularies=VOCABULARIES), model)
    vocabularies = put_vocabularies(tmp_path / "vocabularies")
    assert convert(official, back, vocabularies=vocabularies, config=CONFIG)[-1] == "vocabularies"
    assert_same(load(back), model)
    assert main(["convert", str(own), str(tmp_path / "half.safetensors"), "--dtype", "float16"]) == 0
    capsys.readouterr()

    assert main(["inspect", str(own), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (file,) = report["files"]
    assert file["layout"] == "vd_core" and list(file["parts"]) == list_parts(CONFIG)
    assert report["config"]["diffuser"]["model_channels"] == 32
    assert sum(part["parameters"] for part in file["parts"].values()) == sum(
        np.prod(tensor.shape) for tensor in state.values()
    )
    assert report["flows"] == {
        "image-to-image": [],
        "text-to-image": [],
        "image-to-text": [],
        "text-to-text": [],
    }

    assert main(["inspect", str(tmp_path / "half.safetensors")]) == 0
    out = capsys.readouterr().out
    assert (
        "half.safetensors: single file of this project" in out
        and "float16" in out
        and "image-to-text: complete" in out
    )


def test_inspect_says_what_is_missing(own, state, tmp_path, capsys):
    def edit(tensors):
        for key in list(tensors):
            if key.startswith(("clip_text.", "vocab.")) or key == "image_vae.quant_conv.bias":
                del tensors[key]

    path = change(own, edit, tmp_path / "changed.safetensors")
    report = inspect(path)
    assert report["flows"]["image-to-image"] == ["image_vae"]
    assert report["flows"]["text-to-text"] == ["clip_text", "vocabularies"]
    assert report["files"][0]["parts"]["image_vae"]["faults"] == ["1 missing key: image_vae.quant_conv.bias"]
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "text-to-image: needs also clip_text, image_vae" in out and "published: kl-f8.pth" in out


def test_commands_fail_with_one_sentence(own, tmp_path, capsys):
    (tmp_path / "empty.pth").write_bytes(b"")
    for arguments in (
        ["inspect", str(tmp_path / "nothing")],
        ["inspect", str(tmp_path / "empty.pth")],
        ["convert", str(own), str(tmp_path / "nowhere" / "out.safetensors")],
    ):
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1


def test_a_stopped_command_leaves_nothing_and_names_are_shown_without_control_characters(
    own, tmp_path, monkeypatch, capsys
):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "to_bytes", stop)
    assert main(["convert", str(own), str(tmp_path / "out.safetensors")]) == 130
    assert capsys.readouterr().err == "error: It was stopped.\n" and os.listdir(tmp_path) == [own.name]
    assert main(["inspect", str(tmp_path / "\x1b[31mred\n")]) == 1
    assert capsys.readouterr().err.strip().isprintable()


@pytest.mark.parametrize("out", ["", "."])
def test_a_model_is_not_converted_to_a_folder(out, own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(own), out]) == 1
    assert "is a folder, which is never replaced" in capsys.readouterr().err and os.listdir(tmp_path) == [
        own.name
    ]


def test_a_target_that_cannot_be_is_told_before_anything_is_read(own, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vd_core.checkpoints.convert.open_checkpoints", lambda *arguments: pytest.fail("read")
    )
    with pytest.raises(OSError, match="is a folder, which is never replaced"):
        convert(own, tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere to write"):
        convert(own, tmp_path / "nowhere" / "out.safetensors")


def test_a_forgotten_target_replaces_no_file(own, tmp_path, capsys):
    """The last of several files counts as the new one."""
    other, picture = tmp_path / "lora.safetensors", tmp_path / "picture.png"
    other.write_bytes(b"kept")
    picture.write_bytes(b"kept")
    for last, words in ((other, "is there already"), (picture, "does not end in .safetensors")):
        assert main(["convert", str(own), str(last)]) == 1
        assert words in capsys.readouterr().err and last.read_bytes() == b"kept"
    assert main(["convert", str(own), str(other), "--overwrite"]) == 0
    assert other.read_bytes() == own.read_bytes()


def test_a_folder_of_vocabularies_that_is_not_there_is_refused(own, tmp_path):
    """Even where the file has its own."""
    nowhere, out = tmp_path / "nowhere", tmp_path / "out.safetensors"
    for work in (partial(convert, own, out), partial(load, own)):
        with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere with vocabularies: give"):
            work(vocabularies=nowhere)
    assert not out.exists()


def test_vocabularies_go_into_our_own_layout_only(own, tmp_path):
    with pytest.raises(ValueError, match="layout only, not into one of official"):
        convert(own, tmp_path / "a.safetensors", layout="official", vocabularies=tmp_path)


def test_a_file_is_converted_to_itself(own, model, tmp_path, monkeypatch):
    shutil.copy(own, tmp_path / "copy.safetensors")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["convert", "copy.safetensors", str(tmp_path / "copy.safetensors"), "--dtype", "float16"]) == 0
    )
    half = load_file("copy.safetensors")
    assert half.keys() == load_file(own).keys() and torch.float32 not in {v.dtype for v in half.values()}
