"""Diffusers of Prompt-Free Diffusion and Stable Diffusion 1 are the same network.

Seen by the full-size manifests and on tiny files.
"""

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vd_core.__main__ import main
from vd_core.checkpoints.convert import convert, stable_diffusion_unet
from vd_core.checkpoints.key_maps import KeyMap, unet_model
from vd_core.checkpoints.layouts import STABLE_DIFFUSION, detect, find_layout
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import build, collect_state
from vd_core.checkpoints.write import export
from vd_core.config import VDConfig

MANIFESTS = Path(__file__).resolve().parents[2] / "golden" / "manifests"
FILES, MAPS = (
    json.loads(gzip.decompress((MANIFESTS / f"pfd_{name}.json.gz").read_bytes()))
    for name in ("official", "key_maps")
)
PFD = FILES["pfd/diffuser/SD-v1-5.safetensors"]
CONTROL = FILES["controlnet/control_sd15_canny_slimmed.safetensors"]
PARTS = ("diffuser.data.image", "diffuser.context.text")
TINY = replace(VDConfig.tiny(), diffuser=replace(VDConfig.tiny().diffuser, context={"text": 40}))


@pytest.fixture(scope="module")
def full():
    """Every key of the full-size image flow with an empty tensor."""
    return collect_state(build(VDConfig(), PARTS))


@pytest.fixture
def pfd(tmp_path):
    """Return a tiny diffuser in the layout of Prompt-Free Diffusion."""
    torch.manual_seed(0)
    state = {key: torch.randn(tensor.shape) for key, tensor in collect_state(build(TINY, PARTS)).items()}
    path = tmp_path / "pfd.safetensors"
    save_file(export(state, "official", TINY), path)
    return path


def test_the_released_diffuser_is_known_strictly(full):
    layout = detect(PFD, "pfd")
    assert layout.name == "official"
    key_map = KeyMap(layout.rules(VDConfig()))
    ours = {key: key_map.ours(key) for key in PFD}
    assert sorted(name for (name,) in ours.values()) == sorted(full)
    assert all(list(full[name].shape) == PFD[key] for key, (name,) in ours.items())


def test_both_names_are_a_bijection_and_equal_the_verified_map(full):
    pfd, sd = (KeyMap(find_layout(name).rules(VDConfig())) for name in ("official", "stable_diffusion"))
    verified = MAPS["a1111_to_pfd"]
    assert len(verified) == len(PFD) == len(full) == 686
    assert {place.key: pfd.theirs(key)[0].key for key in full for place in sd.theirs(key)} == verified
    assert all(sd.ours(key) == pfd.ours(other) and len(sd.ours(key)) == 1 for key, other in verified.items())
    assert all(count == 1 for count in Counter(verified.values()).values())


def test_a_whole_model_exports_its_text_flow(full):
    both = full | {
        key.replace(".text.", ".image."): tensor for key, tensor in full.items() if ".context." in key
    }
    assert export(both, STABLE_DIFFUSION.name, VDConfig()).keys() == MAPS["a1111_to_pfd"].keys()


def test_the_released_control_nets_are_the_first_half_of_that_network(full):
    rules = unet_model(VDConfig().diffuser, "image", ["text"])
    key_map = KeyMap(rules)
    half = {key: key_map.ours(key) for key in CONTROL if key_map.ours(key)}
    names = {place.key: key for key in full for place in key_map.theirs(key)}
    assert half.keys() == {
        name for name in names if name.startswith(("time_embed.", "input_blocks.", "middle_block."))
    }
    assert all(list(full[name].shape) == CONTROL[key] for key, (name,) in half.items())
    rest = {key.split(".")[0] for key in CONTROL.keys() - half.keys()}
    assert rest == {"input_hint_block", "zero_convs", "middle_block_out"} and len(CONTROL) == 340


@pytest.mark.parametrize("kind", ["text", "image"])
def test_there_and_back(pfd, tmp_path, kind):
    tensors = load_file(pfd)
    named = tmp_path / "named.safetensors"
    save_file(
        {key.replace("diffuser.text.", f"diffuser.{kind}."): tensor for key, tensor in tensors.items()}, named
    )
    config = replace(TINY, diffuser=replace(TINY.diffuser, context={"image": 40, "text": 40}))
    sd, back = tmp_path / "sd.safetensors", tmp_path / "back.safetensors"
    assert convert(named, sd, layout="stable_diffusion", config=config) == ["diffuser"]
    assert all(key.startswith("model.diffusion_model.") for key in load_file(sd))
    assert stable_diffusion_unet(sd, config).keys() == load_file(sd).keys()
    convert(sd, back, layout="official", config=TINY)
    assert load_file(back).keys() == tensors.keys()
    assert all(torch.equal(load_file(back)[key], tensor) for key, tensor in tensors.items())


def test_a_checkpoint_of_stable_diffusion_gives_its_diffuser(pfd, tmp_path):
    tensors = stable_diffusion_unet(pfd, TINY)
    others = {
        "first_stage_model.a": torch.ones(1),
        "cond_stage_model.b": torch.ones(1),
        "model_ema.decay": torch.ones(1),
    }
    torch.save({"state_dict": tensors | others | {"betas": torch.ones(2)}}, tmp_path / "sd.ckpt")
    convert(
        tmp_path / "sd.ckpt",
        tmp_path / "out.safetensors",
        layout="official",
        dtype=torch.float16,
        config=TINY,
    )
    written, expected = load_file(tmp_path / "out.safetensors"), load_file(pfd)
    assert written.keys() == expected.keys() and all(
        torch.equal(written[key], expected[key].half()) for key in written
    )


def test_it_is_converted_but_never_loaded(pfd, tmp_path):
    save_file(stable_diffusion_unet(pfd, TINY), tmp_path / "sd.safetensors")
    with pytest.raises(
        ValueError, match="looks like a Stable Diffusion checkpoint, which is no part of Versatile Diffusion"
    ):
        load(tmp_path / "sd.safetensors", config=TINY)


def test_what_is_missing_is_named(pfd, tmp_path):
    tensors = stable_diffusion_unet(pfd, TINY)
    del tensors["model.diffusion_model.out.2.bias"]
    save_file(tensors, tmp_path / "sd.safetensors")
    with pytest.raises(
        ValueError,
        match=r"does not fit in .*sd.safetensors .*1 missing key: model.diffusion_model.out.2.bias",
    ):
        stable_diffusion_unet(tmp_path / "sd.safetensors", TINY)


def test_the_command_offers_it(pfd, tmp_path, capsys):
    """A tiny file is refused by its size, which shows that the command got as far."""
    assert main(["convert", str(pfd), str(tmp_path / "sd.safetensors"), "--layout", "stable_diffusion"]) == 1
    assert "needs its config" in capsys.readouterr().err
    assert not (tmp_path / "sd.safetensors").exists()
