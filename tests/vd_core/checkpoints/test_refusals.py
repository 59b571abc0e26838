"""Every bad file gets its sentence, and nothing in it is run."""

import json
import os
import pickle
import re
import zipfile

import pytest
import torch
from checkpoint_files import (
    CONFIG,
    IMAGE_VARIATION,
    VOCABULARIES,
    change,
)
from safetensors.torch import load_file, save_file

from vd_core.checkpoints.load import load
from vd_core.checkpoints.published import find_model
from vd_core.checkpoints.read import read
from vd_core.checkpoints.write import export


class Attack:
    """Pickles to a call of os.system."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


SENTENCES = {
    "zip": r"model.pth contains code \((posix|nt).system\), not only tensors; it was refused and not run",
    "legacy": r"model.pth contains code \((posix|nt).system\), not only tensors; it was refused and not run",
    "protocol 4": "model.pth is pickled in protocol 4, which may hide code; it was refused and not run",
    "plain": r"model.pth is pickled in protocol \d, which may hide code; it was refused and not run",
}


@pytest.mark.parametrize("form", SENTENCES)
def test_a_pickle_with_code_is_refused_and_not_run(form, tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "model.pth"
    content = {"diffuser.image.time_embed.0.weight": torch.zeros(2), "x": Attack(marker)}
    if form == "plain":
        path.write_bytes(pickle.dumps(content["x"]))
    else:
        torch.save(
            content,
            path,
            _use_new_zipfile_serialization=form != "legacy",
            pickle_protocol=4 if form == "protocol 4" else 2,
        )
    with pytest.raises(ValueError, match=SENTENCES[form]):
        load(path)
    assert not marker.exists()


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)


def truncated(path, data: bytes):
    path.write_bytes(data[: len(data) // 2])


BAD_FILES = {
    "empty": (lambda path: path.write_bytes(b""), "is empty; download it again"),
    "lfs pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is a Git LFS pointer",
    ),
    "web page": (
        lambda path: path.write_text("\n<!DOCTYPE html><html>Not found"),
        "is a web page saved under the name of a model",
    ),
    "picture": (
        lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(100)),
        "is neither a safetensors file nor one of torch.save",
    ),
    "huge header": (
        lambda path: path.write_bytes((2**40).to_bytes(8, "little") + b"{}"),
        "is truncated or corrupt",
    ),
    "zip bomb": (bomb, "it claims to unpack to 10000000 bytes, more than its own"),
    "not a dictionary": (
        lambda path: torch.save([torch.zeros(3)], path),
        "holds a list, not a dictionary of tensors",
    ),
    "not only tensors": (
        lambda path: torch.save({"a": torch.zeros(1), "lr": 0.1}, path),
        "is not a dictionary of tensors: 'lr' is a float",
    ),
    "no tensors": (lambda path: torch.save({}, path), "is not a dictionary of tensors: it is empty"),
    "garbage pickle": (lambda path: path.write_bytes(b"\x80\x02garbage" * 9), "is truncated or corrupt"),
    "unknown": (
        lambda path: save_file({"a.b": torch.zeros(1)}, path),
        "holds no part of Versatile Diffusion .* first keys are a.b",
    ),
    "stable diffusion": (
        lambda path: save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, path),
        "looks like a Stable Diffusion checkpoint",
    ),
    "mixed": (
        lambda path: save_file(
            {"text_model.a": torch.zeros(1), "encoder.down.0.block.0.a": torch.zeros(1)}, path
        ),
        r"mixes several kinds of weights \(image autoencoder \(kl-f8\); Hugging Face CLIP\)",
    ),
    "folder": (
        lambda path: path.mkdir(),
        "is not a diffusers folder: none of its subfolders image_unet, text_unet, vae,",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_get_their_sentence(kind, tmp_path):
    make, sentence = BAD_FILES[kind]
    path = tmp_path / "model.bin"
    make(path)
    with pytest.raises(ValueError, match=sentence) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_files(form, share, tmp_path):
    path, tensors = tmp_path / "model", {f"text_model.{n}": torch.randn(500) for n in range(20)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: max(9, int(len(data) * share))])
    with pytest.raises(ValueError, match="is truncated or corrupt"):
        read(path)


def test_no_wrong_bit_in_the_structure_of_a_zip_file_changes_a_tensor(tmp_path):
    """Each bit of a tensor's header and of the directory in turn: refused, or read as it was."""
    path, tensors = tmp_path / "model.pth", {f"text_model.{n}": torch.randn(70) for n in range(3)}
    torch.save(tensors, path)
    whole = path.read_bytes()
    header, directory = whole.index(b"PK\x03\x04", len(whole) // 2), whole.index(b"PK\x01\x02")
    refused = 0
    for place in (*range(header, header + 60), *range(directory, len(whole))):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = read(path).weights
                assert found.keys() == tensors.keys()
                assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items()), (place, bit)
            except ValueError as error:
                refused += 1
                assert str(path) in str(error) and str(error).endswith(".")
    assert refused > 1000


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("which", ["data/0", "data.pkl", ""])
def test_a_compressed_zip_file_is_refused_and_what_mends_it_works(method, which, tmp_path):
    """Its tensors would be read as the numbers that they are compressed to."""
    path, tensor = tmp_path / "model.pth", torch.randn(500)
    torch.save({"text_model.a": tensor}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name), method if which in name else None)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is compressed, so its tensors cannot"):
        read(path)
    if method != zipfile.ZIP_DEFLATED:  # torch knows no other
        return
    torch.save(torch.load(path, weights_only=True), path)
    assert torch.equal(read(path).weights["text_model.a"], tensor)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nothing.pth"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(
        FileNotFoundError,
        match=r"There is no kl-f8.pth in .*; published are kl-f8.pth \(0.3 GB, huggingface.co/shi-labs",
    ):
        find_model("kl-f8.pth", [tmp_path])
    with pytest.raises(ValueError, match="No file was given"):
        load([])


FAULTS = {
    "missing": (
        lambda t: t.pop("diffuser.data.image.0.conv.bias"),
        r"^diffuser.data.image does not fit in .*: 1 missing key: diffuser.data.image.0.conv.bias\.$",
    ),
    "many missing": (
        lambda t: [t.pop(key) for key in list(t) if "decoder.h." in key],
        r"24 missing keys: (text_vae\S+, ){4}…\.$",
    ),
    "unexpected": (
        lambda t: t.update({"image_vae.extra": torch.zeros(1)}),
        r"1 unexpected key: image_vae.extra\.$",
    ),
    "misshapen": (
        lambda t: t.update({"clip_text.text_projection.weight": torch.zeros(40, 33)}),
        r"1 misshapen key: clip_text.text_projection.weight is \[40, 33\] where \[40, 32\] is needed\.$",
    ),
    "stranger": (
        lambda t: t.update(lonely=torch.zeros(1)),
        r"\(single file of this project\) has 1 unknown key: lonely\.$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_keys_are_named(fault, own, tmp_path):
    edit, sentence = FAULTS[fault]
    with pytest.raises(ValueError, match=sentence):
        load(change(own, edit, tmp_path / "changed.safetensors"))


def test_missing_keys_have_the_names_of_their_file(state, tmp_path):
    tensors = export(state, "official", CONFIG)
    del tensors["diffuser.text.data_blocks.1.0.in_layers.2.weight"]
    torch.save(tensors, tmp_path / "vd.pth")
    with pytest.raises(ValueError, match="1 missing key: diffuser.text.data_blocks.1.0.in_layers.2.weight"):
        load(tmp_path / "vd.pth", config=CONFIG, vocabularies=VOCABULARIES)
    load(tmp_path / "vd.pth", config=CONFIG, parts=IMAGE_VARIATION)


@pytest.mark.parametrize(
    ("layout", "key"),
    [("optimus", "decoder.lm_head.weight"), ("diffusers", "text_unet/time_embedding.linear_1.bias")],
)
def test_copies_must_be_equal(layout, key, state, tmp_path):
    tensors = export(state, layout, CONFIG)
    tensors[key] = tensors[key] + 1
    if layout == "optimus":
        torch.save(tensors, tmp_path / "optimus-vae.pth")
    else:
        for folder in ("image_unet", "text_unet"):
            (tmp_path / folder).mkdir()
            members = {
                name.partition("/")[2]: tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{folder}/")
            }
            torch.save(members, tmp_path / folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=f"holds one tensor twice with different values: .* and {key}"):
        load(
            tmp_path / "optimus-vae.pth" if layout == "optimus" else tmp_path,
            config=CONFIG,
            vocabularies=VOCABULARIES,
        )


def test_absent_and_unknown_parts(state, tmp_path):
    torch.save(export(state, "kl-f8", CONFIG), tmp_path / "kl-f8.pth")
    with pytest.raises(
        ValueError,
        match=r"has no diffuser.time_embed, diffuser.data.image; published in vd-four-flow-v1-0-fp16.pth",
    ):
        load(tmp_path / "kl-f8.pth", parts=["diffuser.data.image"], config=CONFIG)
    with pytest.raises(ValueError, match="There is no part unet; the parts are diffuser.time_embed, "):
        load(tmp_path / "kl-f8.pth", parts=["unet"], config=CONFIG)


def test_a_foreign_file_of_other_sizes_needs_its_config(state, tmp_path):
    torch.save(export(state, "official", CONFIG), tmp_path / "vd.pth")
    with pytest.raises(
        ValueError,
        match="has .* unknown keys: .* A model of other sizes than Versatile Diffusion v1.0 needs its config",
    ):
        load(tmp_path / "vd.pth")


def test_sizes_in_the_header_that_cannot_be_understood(own, tmp_path):
    path = tmp_path / "changed.safetensors"
    for sizes in ("{", "[]", '{"diffuser": {}}', json.dumps(CONFIG.to_dict() | {"schedule": {"rings": 3}})):
        save_file(load_file(own), path, {"vd_config": sizes})
        with pytest.raises(ValueError, match=r"model sizes \(vd_config\) in .* cannot be understood"):
            load(path)


# Vocabularies --------------------------------------------------------------------------------
