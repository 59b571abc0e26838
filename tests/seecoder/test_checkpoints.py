"""Files of SeeCoder: every released kind and name, any size, and what is said about those that do not fit."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seecoder.checkpoints import PREFIX, collect_released_state, from_tensors, load, name_as_released
from seecoder.config import SeeCoderConfig
from seecoder.model import SeeCoder
from seecoder.sizes import read_seecoder_config
from vd_core.checkpoints.read import read

MANIFEST = Path(__file__).resolve().parents[1] / "golden" / "manifests" / "pfd_official.json.gz"
FILES = {
    Path(name).stem: shapes
    for name, shapes in json.loads(gzip.decompress(MANIFEST.read_bytes())).items()
    if name.startswith("pfd/seecoder")
}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "position aware"])
def model(request):
    torch.manual_seed(0)
    return SeeCoder(SeeCoderConfig.tiny(request.param)).requires_grad_(False)


@pytest.fixture
def tensors(model):
    return collect_released_state(model)


def equal(one: SeeCoder, other: SeeCoder) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return (
        one.config == other.config
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[key], theirs[key]) for key in ours)
    )


@pytest.mark.parametrize("name", FILES)
def test_the_released_files_load_strictly(name):
    """Full size, without memory: names, shapes, and the kind told by the keys."""
    shapes = FILES[name]
    tensors = {key: torch.empty(shape, device="meta", dtype=torch.float16) for key, shape in shapes.items()}
    loaded = from_tensors(tensors, name, dtype=None)
    assert len(shapes) == (622 if "-pa-" in name else 616)
    assert loaded.config.position_aware is ("-pa-" in name)
    plain = SeeCoderConfig()
    assert (loaded.config.swin, loaded.config.decoder) == (plain.swin, plain.decoder)
    assert loaded.config.tokens == 148 and (loaded.config == plain) is not loaded.config.position_aware


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".ckpt", ".legacy"])
@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_every_format_with_and_without_the_prefix(model, tensors, tmp_path, ending, prefix):
    path = tmp_path / f"seecoder{ending}"
    tensors = {prefix + key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    # Released files carry this buffer.
    tensors[f"{prefix}imencoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        16, 16, dtype=torch.int64
    )
    if ending == ".safetensors":
        save_file(tensors, path)
    else:
        content = {"state_dict": tensors} if ending == ".ckpt" else tensors
        torch.save(content, path, _use_new_zipfile_serialization=ending != ".legacy")
    loaded = load(path) if ending == ".safetensors" else from_tensors(read(path).weights, str(path))
    assert equal(loaded, model) and not loaded.training


def test_the_format_follows_from_the_contents(model, tensors, tmp_path):
    save_file(tensors, tmp_path / "seecoder.pth")
    assert equal(load(tmp_path / "seecoder.pth"), model)


def test_released_names_give_the_sizes_and_the_decoder_keeps_zeros(model, tensors):
    assert (
        read_seecoder_config(
            {key.removeprefix(PREFIX): tuple(tensor.shape) for key, tensor in tensors.items()}
        )
        == model.config
    )
    joint = tensors[f"{PREFIX}imdecoder.transformer.layers.1.self_attn.in_proj_weight"]
    assert not joint[:128].any() and torch.equal(
        joint[128:], model.imdecoder.transformer["layers"][1].self_attn.v_proj.weight
    )
    # All names are told apart, and a file can hold them (no shared memory).
    assert len({name_as_released(key) for key in model.state_dict()}) == len(tensors)


def test_dtypes(tensors):
    half = {key: tensor.half() for key, tensor in tensors.items()}
    assert next(from_tensors(half, "x").parameters()).dtype == torch.float32
    assert next(from_tensors(half, "x", dtype=None).parameters()).dtype == torch.float16
    assert {parameter.dtype for parameter in from_tensors(half, "x", dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def sentence(tensors, **options) -> str:
    with pytest.raises(ValueError) as error:
        from_tensors(tensors, "some file", **options)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def test_what_does_not_fit_is_named(tensors):
    names = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    query = "qtransformer.query_pos_embedding.weight"
    missing = {key: tensor for key, tensor in names.items() if key != query}
    assert sentence(missing) == f"some file does not fit a SeeCoder: 1 missing key: {query}."
    assert (
        sentence(names | {"vae.x": torch.ones(1)})
        == "some file does not fit a SeeCoder: 1 unexpected key: vae.x."
    )
    misshapen = names | {query: torch.ones(147, 64)}
    said = f"1 misshapen key: {query} is [147, 64] where [148, 64] is needed."
    assert sentence(misshapen) == f"some file does not fit a SeeCoder: {said}"
    joint = "imdecoder.transformer.layers.0.self_attn.in_proj_weight"
    assert f"{joint} is [64, 64] where [192, 64] is needed" in sentence(names | {joint: torch.ones(64, 64)})


def test_what_is_no_seecoder_is_said_so(tensors):
    assert sentence({"a.weight": torch.ones(1), "b": torch.ones(1)}) == (
        "some file is no SeeCoder: it has no imencoder.patch_embed.proj.weight; its first keys are a.weight, "
        "b."
    )
    # The image context of Versatile Diffusion bears the same prefix.
    assert "no SeeCoder" in sentence({"ctx.image.model.vision_model.x": torch.ones(1)})
    names = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    assert "level_embed is [3]" in sentence(names | {"imdecoder.level_embed": torch.ones(3)})
    assert "reads 3 levels of width 60, but its decoder has 3 of width 64; its first" in sentence(
        names | {"qtransformer.init_query.weight": torch.ones(148, 60)}
    )
    table = "imencoder.layers.1.blocks.0.attn.relative_position_bias_table"
    assert "The heads (1, 3, 2, 4)" in sentence(names | {table: torch.ones(49, 3)})


def test_half_a_seecoder_is_refused(tensors):
    backbone = {key: tensor for key, tensor in tensors.items() if ".imencoder." in key}
    assert "it has no imdecoder.level_embed" in sentence(backbone)


def test_a_position_mlp_that_is_not_whole_is_refused(tensors):
    others = {key: tensor for key, tensor in tensors.items() if "pe_layer" not in key}
    incomplete = others | {f"{PREFIX}qtransformer.pe_layer.mlp.0.weight": torch.ones(64, 80)}
    assert "5 missing keys: qtransformer.pe_layer.mlp.0.bias" in sentence(incomplete)


def test_a_layer_far_out_is_not_built(tensors):
    key = "qtransformer.transformer_crossatt_layers.999999999.norm.weight"
    assert f"1 unexpected key: {key}" in sentence(tensors | {PREFIX + key: torch.ones(64)})


def test_values_that_are_no_numbers_are_named(tensors):
    names = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    query = "qtransformer.query_pos_embedding.weight"
    for value in (float("nan"), float("inf")):
        assert f"1 key without finite numbers: {query}." in sentence(
            names | {query: torch.full((148, 64), value)}
        )
    assert f"1 key without finite numbers: {query}." in sentence(
        names | {query: torch.ones(148, 64, dtype=torch.int32)}
    )
    assert f"1 key without finite numbers: {query}." in sentence(
        names | {query: torch.full((148, 64), 1e6)}, dtype=torch.float16
    )


def test_a_model_does_not_change_with_its_file(model, tensors, tmp_path):
    save_file(tensors, tmp_path / "seecoder.safetensors")
    loaded = load(tmp_path / "seecoder.safetensors")
    with (tmp_path / "seecoder.safetensors").open("r+b") as file:
        file.seek(20_000)
        file.write(bytes(100_000))
    assert equal(loaded, model)


def test_files_that_are_none(tensors, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*absent.safetensors"):
        load(tmp_path / "absent.safetensors")
    save_file(tensors, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-100])
    with pytest.raises(
        ValueError, match="cut.safetensors is no safetensors file, or a truncated or corrupt one"
    ):
        load(tmp_path / "cut.safetensors")
    torch.save(tensors, tmp_path / "pickle.pth")
    with pytest.raises(ValueError, match="pickle.pth is no safetensors file"):
        load(tmp_path / "pickle.pth")
