"""Model files: every layout gives the same model back, and every bad file its sentence."""

import json
import os
import pickle
import string
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vd_core.__main__ import main
from vd_core.autoencoders.image_kl import AutoencoderKL
from vd_core.autoencoders.optimus import Optimus
from vd_core.checkpoints import read as read_module
from vd_core.checkpoints import vocabularies as vocabularies_module
from vd_core.checkpoints import write
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import part_names, state_of
from vd_core.checkpoints.published import find_model
from vd_core.checkpoints.read import read
from vd_core.checkpoints.report import inspect
from vd_core.checkpoints.write import export, save_model
from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.encoders.clip import Clip
from vd_core.flows import VersatileDiffusion
from vd_core.tokenizers import Vocabularies

CONFIG = VDConfig.tiny()
IMAGE_VARIATION = ("diffuser.data.image", "diffuser.context.image", "clip_vision", "image_vae")


def tiny_vocabularies() -> Vocabularies:
    """Letters, in the sizes of the tiny model: 94 word pieces, 337 byte-pair tokens."""
    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens = [*letters, "Ġ", *(f"Ġ{letter}" for letter in letters)]
    return Vocabularies(
        bert="\n".join(pieces + [f"[unused{n}]" for n in range(94 - len(pieces))]) + "\n",
        gpt2_vocab=json.dumps({token: n for n, token in enumerate(tokens + [f"<{n}>" for n in range(337 - len(tokens))])}),
        gpt2_merges="#version: 0.2\n" + "\n".join(f"Ġ {letter}" for letter in letters) + "\n",
    )


VOCABULARIES = tiny_vocabularies()


@pytest.fixture(scope="module")
def model() -> VersatileDiffusion:
    torch.manual_seed(0)
    return VersatileDiffusion(
        CONFIG, Diffuser(CONFIG.diffuser), Clip(CONFIG.clip), AutoencoderKL(CONFIG.image_vae), Optimus(CONFIG.text_vae, VOCABULARIES)
    )


@pytest.fixture(scope="module")
def state(model) -> dict[str, torch.Tensor]:
    return state_of(model)


@pytest.fixture
def own(model, tmp_path):
    """The model as a file of our own layout, with its vocabularies."""
    path = tmp_path / "own.safetensors"
    save_model(path, model, VOCABULARIES)
    return path


@torch.no_grad()
def outputs(model: VersatileDiffusion) -> dict[str, torch.Tensor]:
    """What every part of a model makes of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    tokens, t = torch.randn(2, 5, 40, generator=generator), torch.tensor([3, 700])
    latents = {"image": torch.randn(2, 4, 8, 8, generator=generator), "text": torch.randn(2, 24, generator=generator)}
    ids = torch.tensor([[49406, 5, 6, 49407, 49407]])
    images = torch.rand(1, 3, 32, 32, generator=generator)
    out = {f"{data}-{kind}": model.diffuser(x, t, [(kind, tokens, 1.0)], data) for data, x in latents.items() for kind in ("image", "text")}
    out |= {"clip text": model.clip.encode_ids(ids), "clip vision": model.clip.encode_image(images)}
    out |= {"image latent": model.image_vae.encode(images), "image": model.image_vae.decode(latents["image"])}
    if model.text_vae is not None:
        out["text latent"] = model.text_vae.encode(["a cat", "dogs"])
        out["logits"] = model.text_vae.logits(latents["text"], torch.tensor([[338, 1, 2], [338, 4, 5]]))
    return out


def assert_same(loaded: VersatileDiffusion, model: VersatileDiffusion, without: tuple[str, ...] = ()) -> None:
    """Equal weights, and outputs equal up to what their place in memory changes in the last bits."""
    expected, tensors = outputs(model), state_of(model)
    for key, tensor in state_of(loaded).items():
        assert torch.equal(tensor, tensors.pop(key)), key
    assert not {key.partition(".")[0] for key in tensors} - set(without)
    for name, value in outputs(loaded).items():
        torch.testing.assert_close(value, expected.pop(name), atol=1e-6, rtol=1e-6, msg=name)
    assert bool(expected) == bool(without)


def official_extras(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys of the official model that carry nothing: buffers, and the unused half of each of its two CLIPs."""
    text, vision = ({k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"clip_{half}.")} for half in ("text", "vision"))
    extras = {f"ctx.image.model.{key}": tensor for key, tensor in text.items()}
    extras |= {f"ctx.text.model.{key}": tensor for key, tensor in vision.items()}
    extras |= {f"ctx.{kind}.model.logit_scale": torch.tensor(1.0) for kind in ("image", "text")}
    extras["ctx.text.model.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return extras | {"betas": torch.zeros(1000), "sqrt_recipm1_alphas_cumprod": torch.zeros(1000)}


def causal_masks(prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}decoder.transformer.h.{n}.attn.bias": torch.ones(1, 1, 48, 48) for n in range(2)}


def write_official(state, folder):
    whole = export(state, "official", CONFIG) | official_extras(state) | causal_masks("vae.text.")
    torch.save(whole, folder / "vd-four-flow-v1-0.pth")
    return [folder / "vd-four-flow-v1-0.pth"]


def write_official_parts(state, folder):
    """The files as they are published."""
    diffuser = {key: tensor for key, tensor in state.items() if key.startswith("diffuser.")}
    torch.save(export(diffuser, "official", CONFIG), folder / "vd.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": export(state, "kl-f8", CONFIG) | {"loss.logvar": torch.zeros(())}, "epoch": 3}, folder / "kl-f8.pth")
    torch.save(export(state, "optimus", CONFIG) | causal_masks(), folder / "optimus-vae.pth")
    clip = export(state, "clip", CONFIG) | {"logit_scale": torch.tensor(1.0)}
    (folder / "clip").mkdir()
    save_file(clip, folder / "clip" / "model.safetensors")
    return [folder / "vd.pth", folder / "kl-f8.pth", folder / "optimus-vae.pth", folder / "clip"]


def write_deprecated(state, folder):
    torch.save(export(state, "deprecated", CONFIG), folder / "old.pth")
    return [folder / "old.pth"]


def write_open_clip(state, folder):
    rest = {key: tensor for key, tensor in state.items() if not key.startswith("clip_")}
    save_file({key: t.contiguous() for key, t in export(state, "open_clip", CONFIG).items()}, folder / "open_clip_model.safetensors")
    torch.save(export(rest, "official", CONFIG), folder / "vd.pth")
    return [folder / "vd.pth", folder / "open_clip_model.safetensors"]


def write_diffusers(state, folder, rename=lambda key: key):
    """Safetensors and .bin files, as both are found in such folders."""
    members: dict[str, dict] = {}
    for key, tensor in export(state, "diffusers", CONFIG).items():
        name, _, rest = key.partition("/")
        members.setdefault(name, {})[rename(rest)] = tensor.clone()
    for name, tensors in members.items():
        (folder / name).mkdir()
        if name.endswith("unet"):
            torch.save(tensors, folder / name / "diffusion_pytorch_model.bin")
        else:
            save_file(tensors, folder / name / ("diffusion_pytorch_model.safetensors" if name == "vae" else "model.safetensors"))
    return [folder]


def write_diffusers_2022(state, folder):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key: str) -> str:
        found = [name for name in names if f"mid_block.attentions.0.{name}." in key and "transformer_blocks" not in key]
        return key.replace(found[0], names[found[0]]) if found else key

    return write_diffusers(state, folder, rename)


@pytest.mark.parametrize("layout", [write_official, write_official_parts, write_deprecated, write_open_clip])
def test_every_layout_gives_the_model_back(layout, model, state, tmp_path):
    loaded = load(layout(state, tmp_path), config=CONFIG, vocabularies=VOCABULARIES)
    assert_same(loaded, model)
    assert not any(module.training for part in (loaded.diffuser, loaded.clip, loaded.text_vae) for module in part.modules())


@pytest.mark.parametrize("layout", [write_diffusers, write_diffusers_2022])
def test_diffusers_folder(layout, model, state, tmp_path):
    loaded = load(layout(state, tmp_path), config=CONFIG)
    assert loaded.text_vae is None
    assert_same(loaded, model, without=("text_vae",))


def test_one_unet_of_a_diffusers_folder(model, state, tmp_path):
    (folder,) = write_diffusers(state, tmp_path)
    loaded = load(folder / "text_unet", config=CONFIG)
    x, tokens, t = torch.randn(1, 24), torch.randn(1, 5, 40), torch.tensor([9])
    with torch.no_grad():
        expected = model.diffuser(x, t, [("text", tokens, 1.0)], "text")
        assert torch.equal(loaded.diffuser(x, t, [("text", tokens, 1.0)], "text"), expected)
    assert list(loaded.diffuser.data) == list(loaded.diffuser.context) == ["text"]


def test_open_clip_weights_compute_what_open_clip_computes(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(2)
    vision = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 14, "image_size": 56, "mlp_ratio": 2.0}
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
        write.write_safetensors(tmp_path / "file", {"text_model.a": torch.zeros(1)}, {"note": "x" * 8 * (32 * length + padding)})
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
    loaded = state_of(load(half))
    assert all(torch.equal(loaded[key], tensor.to(dtype).float()) for key, tensor in state.items())
    assert {tensor.dtype for tensor in state_of(load(own, dtype=dtype)).values()} == {dtype}


def test_only_the_wanted_parts_are_read(own, model, monkeypatch):
    asked = []
    get = read_module.LazySafetensors.__getitem__
    monkeypatch.setattr(read_module.LazySafetensors, "__getitem__", lambda self, key: asked.append(key) or get(self, key))
    loaded = load(own, parts=IMAGE_VARIATION)
    weights = [key for key in asked if not key.startswith("vocab.")]
    assert len(weights) == len(set(weights)) == len(state_of(loaded))
    assert {part for part in part_names(CONFIG) for key in weights if key.startswith(f"{part}.")} == {
        "diffuser.time_embed",
        *IMAGE_VARIATION,
    }
    assert loaded.text_vae is None and loaded.clip.text_tower is None and list(loaded.diffuser.data) == ["image"]


def test_a_part_is_taken_from_the_first_file_that_has_it(own, state, tmp_path):
    other = tmp_path / "kl-f8.pth"
    torch.save({key: tensor + 1 for key, tensor in export(state, "kl-f8", CONFIG).items()}, other)
    key = "image_vae.quant_conv.weight"
    assert torch.equal(state_of(load([own, other]))[key], state[key])
    assert torch.equal(state_of(load([other, own]))[key], state[key] + 1)


# Refusals ---------------------------------------------------------------------------------------------------------------------------


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
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy", pickle_protocol=4 if form == "protocol 4" else 2)
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
    "lfs pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "is a Git LFS pointer"),
    "web page": (lambda path: path.write_text("\n<!DOCTYPE html><html>Not found"), "is a web page saved under the name of a model"),
    "picture": (lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(100)), "is neither a safetensors file nor one of torch.save"),
    "huge header": (lambda path: path.write_bytes((2**40).to_bytes(8, "little") + b"{}"), "is truncated or corrupt"),
    "zip bomb": (bomb, "claims to unpack to 10000000 bytes"),
    "not a dictionary": (lambda path: torch.save([torch.zeros(3)], path), "holds a list, not a dictionary of tensors"),
    "not only tensors": (
        lambda path: torch.save({"a": torch.zeros(1), "lr": 0.1}, path),
        "is not a dictionary of tensors: 'lr' is a float",
    ),
    "no tensors": (lambda path: torch.save({}, path), "is not a dictionary of tensors: it is empty"),
    "garbage pickle": (lambda path: path.write_bytes(b"\x80\x02garbage" * 9), "is truncated or corrupt"),
    "unknown": (lambda path: save_file({"a.b": torch.zeros(1)}, path), "holds no part of Versatile Diffusion .* first keys are a.b"),
    "stable diffusion": (
        lambda path: save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, path),
        "looks like a Stable Diffusion checkpoint",
    ),
    "mixed": (
        lambda path: save_file({"text_model.a": torch.zeros(1), "encoder.down.0.block.0.a": torch.zeros(1)}, path),
        r"mixes several kinds of weights \(image autoencoder \(kl-f8\); Hugging Face CLIP\)",
    ),
    "folder": (lambda path: path.mkdir(), "is not a diffusers folder: none of its subfolders image_unet, text_unet, vae,"),
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


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nothing.pth"):
        load(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match=r"There is no kl-f8.pth in .*; published are kl-f8.pth \(0.3 GB, huggingface.co/shi-labs"):
        find_model("kl-f8.pth", [tmp_path])
    with pytest.raises(ValueError, match="No file was given"):
        load([])


def change(path, edit, out):
    """A copy of a file of ours with edited tensors and the same header."""
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, out, header)
    return out


FAULTS = {
    "missing": (
        lambda t: t.pop("diffuser.data.image.0.conv.bias"),
        r"^diffuser.data.image does not fit in .*: 1 missing key: diffuser.data.image.0.conv.bias\.$",
    ),
    "many missing": (lambda t: [t.pop(key) for key in list(t) if "decoder.h." in key], r"24 missing keys: (text_vae\S+, ){4}…\.$"),
    "unexpected": (lambda t: t.update({"image_vae.extra": torch.zeros(1)}), r"1 unexpected key: image_vae.extra\.$"),
    "misshapen": (
        lambda t: t.update({"clip_text.text_projection.weight": torch.zeros(40, 33)}),
        r"1 misshapen key: clip_text.text_projection.weight is \[40, 33\] where \[40, 32\] is needed\.$",
    ),
    "stranger": (lambda t: t.update(lonely=torch.zeros(1)), r"\(single file of this project\) has 1 unknown key: lonely\.$"),
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
    ("layout", "key"), [("optimus", "decoder.lm_head.weight"), ("diffusers", "text_unet/time_embedding.linear_1.bias")]
)
def test_copies_must_be_equal(layout, key, state, tmp_path):
    tensors = export(state, layout, CONFIG)
    tensors[key] = tensors[key] + 1
    if layout == "optimus":
        torch.save(tensors, tmp_path / "optimus-vae.pth")
    else:
        for folder in ("image_unet", "text_unet"):
            (tmp_path / folder).mkdir()
            members = {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{folder}/")}
            torch.save(members, tmp_path / folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=f"holds one tensor twice with different values: .* and {key}"):
        load(tmp_path / "optimus-vae.pth" if layout == "optimus" else tmp_path, config=CONFIG, vocabularies=VOCABULARIES)


def test_absent_and_unknown_parts(state, tmp_path):
    torch.save(export(state, "kl-f8", CONFIG), tmp_path / "kl-f8.pth")
    with pytest.raises(ValueError, match=r"has no diffuser.time_embed, diffuser.data.image; published in vd-four-flow-v1-0-fp16.pth"):
        load(tmp_path / "kl-f8.pth", parts=["diffuser.data.image"], config=CONFIG)
    with pytest.raises(ValueError, match="There is no part unet; the parts are diffuser.time_embed, "):
        load(tmp_path / "kl-f8.pth", parts=["unet"], config=CONFIG)


def test_a_foreign_file_of_other_sizes_needs_its_config(state, tmp_path):
    torch.save(export(state, "official", CONFIG), tmp_path / "vd.pth")
    with pytest.raises(ValueError, match="has .* unknown keys: .* A model of other sizes than Versatile Diffusion v1.0 needs its config"):
        load(tmp_path / "vd.pth")


def test_sizes_in_the_header_that_cannot_be_understood(own, tmp_path):
    path = tmp_path / "changed.safetensors"
    for sizes in ("{", "[]", '{"diffuser": {}}', json.dumps(CONFIG.to_dict() | {"schedule": {"rings": 3}})):
        save_file(load_file(own), path, {"vd_config": sizes})
        with pytest.raises(ValueError, match=r"model sizes \(vd_config\) in .* cannot be understood"):
            load(path)


# Vocabularies -----------------------------------------------------------------------------------------------------------------------


def put_vocabularies(folder, names=("bert-base-cased-vocab.txt", "gpt2-vocab.json", "gpt2-merges.txt")):
    for name, text in zip(names, (VOCABULARIES.bert, VOCABULARIES.gpt2_vocab, VOCABULARIES.gpt2_merges), strict=True):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def optimus_file(state, tmp_path, monkeypatch):
    """optimus-vae.pth in a folder of its own, without a Hugging Face cache."""
    monkeypatch.setattr(vocabularies_module, "try_to_load_from_cache", lambda repository, file: None)
    (tmp_path / "models").mkdir()
    torch.save(export(state, "optimus", CONFIG), tmp_path / "models" / "optimus-vae.pth")
    return tmp_path / "models" / "optimus-vae.pth"


def test_vocabularies_are_found(optimus_file, model, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"bert-base-cased-vocab.txt .* gpt2-vocab.json and gpt2-merges.txt .* into .*models"):
        load(optimus_file, config=CONFIG)
    expected = model.text_vae.encode(["a cat"])

    named = put_vocabularies(tmp_path / "named", ("bert-base-cased/vocab.txt", "gpt2/vocab.json", "gpt2/merges.txt"))
    assert torch.equal(load(optimus_file, config=CONFIG, vocabularies=named).text_vae.encode(["a cat"]), expected)

    cache = put_vocabularies(tmp_path / "cache", ("vocab.txt", "vocab.json", "merges.txt"))
    monkeypatch.setattr(vocabularies_module, "try_to_load_from_cache", lambda repository, file: str(cache / file))
    assert torch.equal(load(optimus_file, config=CONFIG).text_vae.encode(["a cat"]), expected)
    monkeypatch.setattr(vocabularies_module, "try_to_load_from_cache", lambda repository, file: None)

    put_vocabularies(optimus_file.parent)
    assert torch.equal(load(optimus_file, config=CONFIG).text_vae.encode(["a cat"]), expected)


def test_a_vocabulary_of_another_size_is_not_taken(optimus_file):
    put_vocabularies(optimus_file.parent)
    (optimus_file.parent / "bert-base-cased-vocab.txt").write_text("[PAD]\n")
    with pytest.raises(FileNotFoundError, match="needs its public vocabularies"):
        load(optimus_file, config=CONFIG)


# Writing ----------------------------------------------------------------------------------------------------------------------------


def test_a_failing_write_leaves_nothing(own, model, tmp_path, monkeypatch):
    before, calls, data = own.read_bytes(), [], write.data

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 20:
            raise OSError("No space left on device")
        return data(*arguments)

    monkeypatch.setattr(write, "data", failing)
    with pytest.raises(OSError, match="No space left"):
        save_model(own, model, VOCABULARIES)
    assert own.read_bytes() == before
    assert os.listdir(tmp_path) == [own.name]


def test_a_file_may_replace_the_one_it_was_loaded_from(own, model):
    save_model(own, load(own), VOCABULARIES)
    assert_same(load(own), model)


def test_write_refusals(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere to write model.safetensors into"):
        save_model(tmp_path / "nowhere" / "model.safetensors", model)
    with pytest.raises(ValueError, match="big has values beyond what float16 can hold; choose bfloat16 or float32"):
        write.write_safetensors(tmp_path / "model.safetensors", {"big": torch.tensor([1e6])}, {}, torch.float16)
    with pytest.raises(ValueError, match="There is no layout sd; there are vd_core, official,"):
        export({}, "sd", CONFIG)
    with pytest.raises(ValueError, match="The layout kl-f8 has no place for any of these weights"):
        export({"clip_text.a": torch.zeros(1)}, "kl-f8", CONFIG)
    assert os.listdir(tmp_path) == []


def test_every_kind_of_tensor_is_written(tmp_path):
    tensors = {"scalar": torch.tensor(2.0), "none": torch.zeros(0, 3), "bytes": torch.arange(5, dtype=torch.uint8)}
    tensors |= {"strided": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(3, dtype=torch.bfloat16), "long": torch.arange(3)}
    write.write_safetensors(tmp_path / "file.safetensors", tensors, {"a": "b"})
    back = load_file(tmp_path / "file.safetensors")
    assert all(torch.equal(back[key], tensor) and back[key].dtype == tensor.dtype for key, tensor in tensors.items())


# Command line -----------------------------------------------------------------------------------------------------------------------


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
    assert file["layout"] == "vd_core" and list(file["parts"]) == part_names(CONFIG)
    assert report["config"]["diffuser"]["model_channels"] == 32
    assert sum(part["parameters"] for part in file["parts"].values()) == sum(np.prod(tensor.shape) for tensor in state.values())
    assert report["flows"] == {"image-to-image": [], "text-to-image": [], "image-to-text": [], "text-to-text": []}

    assert main(["inspect", str(tmp_path / "half.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "half.safetensors: single file of this project" in out and "float16" in out and "image-to-text: complete" in out


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
