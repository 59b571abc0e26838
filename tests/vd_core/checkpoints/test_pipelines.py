"""Folders of diffusers' four pipelines:

whichever saved it, every tensor finds its place, and nothing vanishes.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import collect_state, list_parts
from vd_core.checkpoints.report import inspect
from vd_core.config import VDConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "pipelines" / "saved.json.gz"
SAVED = json.loads(gzip.decompress(GOLDEN.read_bytes()))
SHAPES = {"image": (32, 4, 3, 3), "text": (32, 24)}  # of conv_in


def value(name: str, shape: list[int]) -> torch.Tensor:
    """Return a tensor that is told by its name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(map(ord, name)) * len(name)))


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[int]]:
    """The shapes of the UNets' tensors, by their names in the whole pipeline; the other parts' are in the
    golden file.
    """
    from vd_core.checkpoints.parts import build
    from vd_core.checkpoints.write import export

    sizes = read_sizes("mega")
    empty = collect_state(build(sizes, list_parts(sizes)))
    found = export(
        {key: tensor for key, tensor in empty.items() if key.startswith("diffuser.")}, "diffusers", sizes
    )
    return {name: list(tensor.shape) for name, tensor in found.items()}


def read_sizes(name: str) -> VDConfig:
    """Return the sizes of the tiny pipelines, spelled out."""
    tiny = VDConfig.tiny().to_dict()
    tiny["diffuser"]["data"]["text"]["second_dim"] = 4
    tiny["diffuser"]["data"]["image"]["side"] = 8
    return VDConfig.from_dict(json.loads(json.dumps(tiny)))


def write_pipeline(name: str, folder: Path, shapes: dict, variant: str = "", shards: int = 1) -> Path:
    """Return a pipeline's folder as diffusers writes it."""
    saved = SAVED[name]
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": saved["class"]}))
    for path, config in saved["configs"].items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(config))
    for part, keys in saved["keys"].items():
        stem = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
        unet = part.endswith("_unet")
        tensors = {
            key: value(at, shapes[at]) if unet else value(f"{part}/{key}", at) for key, at in keys.items()
        }
        write_weights(folder / part, stem, tensors, variant, shards if unet else 1)
    return folder


def write_weights(folder: Path, stem: str, tensors: dict, variant: str, shards: int) -> None:
    """One file, or several with their index."""
    if shards == 1:
        save_file(tensors, folder / f"{stem}{variant}.safetensors")
        return
    places = {}
    for number in range(shards):
        name = f"{stem}{variant}-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[number::shards]}
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}.safetensors.index{variant}.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("variant, shards", [("", 1), (".fp16", 1), ("", 3), (".fp16", 2)])
def test_every_pipeline_gives_the_same_parts(name, variant, shards, shapes, tmp_path):
    folder = write_pipeline(name, tmp_path / name, shapes, variant, shards)
    loaded = load(folder)
    assert (
        loaded.config.diffuser.model_channels == 32
        and loaded.config.clip.image_size == 56
        or name.startswith("text")
    )
    state = collect_state(loaded)
    contexts = {"image_variation": ["image"], "text_to_image_removed": ["text"]}.get(name, ["image", "text"])
    assert sorted(loaded.config.diffuser.context) == contexts
    with_text = "text_unet" in SAVED[name]["keys"]
    assert list(loaded.config.diffuser.data) == (["image", "text"] if with_text else ["image"])
    for kind in contexts:
        for ours, theirs in (
            ("0.proj_in.weight", "down_blocks.0.attentions.0."),
            ("1.proj_in.weight", "mid_block.attentions.0."),
        ):
            at = f"{kind}_unet/{theirs}proj_in.weight"
            assert torch.equal(state[f"diffuser.context.{kind}.{ours}"], value(at, shapes[at])), (kind, ours)
    for kind in loaded.config.diffuser.data:
        at = f"{kind}_unet/conv_in.weight"
        leaf = "conv" if kind == "image" else "linear"
        assert torch.equal(state[f"diffuser.data.{kind}.0.{leaf}.weight"], value(at, shapes[at]))
    assert torch.equal(
        state["image_vae.quant_conv.weight"],
        value("vae/quant_conv.weight", SAVED[name]["keys"]["vae"]["quant_conv.weight"]),
    )


def test_the_dual_image_unet_alone(shapes, tmp_path):
    folder = write_pipeline("dual", tmp_path / "dual", shapes)
    state = collect_state(load(folder / "image_unet"))
    at = "text_unet/mid_block.attentions.0.proj_in.weight"
    assert torch.equal(state["diffuser.context.text.1.proj_in.weight"], value(at, shapes[at]))
    assert list(load(folder / "text_unet").config.diffuser.data) == ["text"]
    assert load(folder / "image_encoder").config.clip.vision.width == 48


def test_what_the_settings_say_is_used_and_what_cannot_be_is_refused(shapes, tmp_path):
    folder = write_pipeline("mega", tmp_path / "mega", shapes)
    config = load(folder).config
    assert config.diffuser == read_sizes("mega").diffuser and config.schedule == VDConfig().schedule
    scheduler = folder / "scheduler" / "scheduler_config.json"
    settings = json.loads(scheduler.read_text())
    scheduler.write_text(
        json.dumps(settings | {"prediction_type": "v_prediction", "num_train_timesteps": 500})
    )
    assert load(folder).config.schedule.prediction == "v" and load(folder).config.schedule.timesteps == 500
    scheduler.write_text(json.dumps(settings | {"beta_schedule": "linear"}))
    with pytest.raises(
        ValueError,
        match="scheduler sets beta_schedule to 'linear' where Versatile Diffusion has 'scaled_linear'",
    ):
        load(folder)
    scheduler.write_text(json.dumps(settings))
    unet = folder / "image_unet" / "config.json"
    said = json.loads(unet.read_text())
    for change, sentence in (
        ({"act_fn": "gelu"}, "image_unet sets act_fn to 'gelu'"),
        ({"block_out_channels": "wide"}, "The settings of .*image_unet cannot be understood"),
        ({"block_out_channels": [32, 32]}, "its levels are not those of the other UNet"),
        ({"attention_head_dim": 0}, "its levels are not those of the other UNet"),
        ({"in_channels": 10**9}, "diffuser.data.image.channels is 1000000000, which no model has"),
    ):
        unet.write_text(json.dumps(said | change))
        with pytest.raises(ValueError, match=sentence):
            load(folder)
    for text in ("[]", "{", "\x00", "[" * 100_000):
        unet.write_text(text)
        with pytest.raises(ValueError, match="config.json (is no JSON file|holds a list)"):
            load(folder)


def test_a_part_that_is_there_but_cannot_be_read_never_vanishes(shapes, tmp_path):
    folder = write_pipeline("mega", tmp_path / "mega", shapes, shards=3)
    shard = folder / "text_unet" / "diffusion_pytorch_model-00002-of-00003.safetensors"
    index = folder / "text_unet" / "diffusion_pytorch_model.safetensors.index.json"
    data, places = shard.read_bytes(), json.loads(index.read_text())
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="There is no file .*00002-of-00003.safetensors"):
        load(folder, parts=["image_vae"])
    shard.write_bytes(data[:-10])
    with pytest.raises(ValueError, match="00002-of-00003.safetensors is truncated or corrupt"):
        load(folder)
    shard.write_bytes(data)
    (folder / "text_unet" / "folder").mkdir()
    for change, sentence in (
        ({"no.such.key": shard.name}, "does not agree with its files: they lack 1 key: no.such.key"),
        (
            {"conv_in.weight": "../secret.safetensors"},
            "names a file outside of its folder, ../secret.safetensors",
        ),
        ({"conv_in.weight": ".."}, r"names a file outside of its folder, \.\."),
        ({"conv_in.weight": "folder"}, "names a folder in place of a file, folder"),
        ({"conv_in.weight": 3}, "is no index of weights"),
    ):
        index.write_text(json.dumps({"weight_map": places["weight_map"] | change}))
        with pytest.raises(ValueError, match=sentence):
            inspect(folder)
    less = {key: name for key, name in places["weight_map"].items() if key != "conv_in.weight"}
    index.write_text(json.dumps({"weight_map": less}))
    with pytest.raises(ValueError, match="it does not name 1 key: conv_in.weight of them"):
        load(folder)
    index.unlink()
    with pytest.raises(
        ValueError, match="text_unet holds no weights file such as diffusion_pytorch_model.safetensors"
    ):
        load(folder)
