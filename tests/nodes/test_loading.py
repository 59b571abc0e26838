"""The nodes that a template begins with: one loader for all parts, and example pictures."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vd_core.checkpoints.companions import find_part, may_hold_diffuser
from vd_core.checkpoints.write import save_model
from vd_core.config import VDConfig, recommend_settings
from vd_core.diffuser.model import Diffuser
from vd_core.embedded import MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.pictures import from_pil

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(pack):
    return pack.NODE_CLASS_MAPPINGS["VD_Load"]()


@pytest.fixture
def example(pack):
    return pack.NODE_CLASS_MAPPINGS["VD_ExamplePicture"]()


def test_only_wired_parts_are_read(load):
    *parts, size, steps, cfg = load.execute("embedded", "default", wired="2,4,7")
    assert [part is not None for part in parts] == [False, False, True, False, True, False]
    assert (size, steps, cfg) == (64, 20, 2.0)


def test_without_knowing_the_wires_all_parts_are_read(load):
    assert None not in load.execute("embedded", "default")


def test_settings_of_the_real_model_are_the_official_apps():
    assert recommend_settings(VDConfig()) == (512, 50, 7.5)


def test_a_part_that_a_file_lacks_is_found_by_its_published_name(tmp_path):
    diffuser = tmp_path / "vd.safetensors"
    config = VDConfig.tiny()
    save_model(diffuser, VersatileDiffusion(config, Diffuser(config.diffuser, ["image"], [])))
    assert find_part(diffuser, "diffuser.data.image", []) == diffuser
    folder = tmp_path / "vae"
    folder.mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"does not hold image_vae, and there is no kl-f8.pth or .* in .*vae: put"
    ):
        find_part(diffuser, "image_vae", [folder])
    (folder / "kl-f8.pth").touch()
    assert find_part(diffuser, "image_vae", [folder]) == folder / "kl-f8.pth"


def test_lists_hide_what_cannot_be_the_model(tmp_path):
    other = tmp_path / "sdxl.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, other)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    assert may_hold_diffuser(MODEL) and may_hold_diffuser(Path("vd-four-flow-v1-0-fp16.pth"))
    assert not may_hold_diffuser(other) and not may_hold_diffuser(tmp_path / "broken.safetensors")
    assert not may_hold_diffuser(Path("sd_xl_base.ckpt"))


@pytest.mark.parametrize("node", ["VD_Load", "VD_LoadImageModel", "VD_LoadTextModel"])
def test_every_list_of_models_hides_them(pack, tmp_path, monkeypatch, node):
    monkeypatch.setenv("VD_MODELS", str(tmp_path))
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "sdxl.safetensors"
    )
    shutil.copy(MODEL, tmp_path / "vd.safetensors")
    (tmp_path / "nothing.safetensors").symlink_to(tmp_path / "gone")
    shown = pack.NODE_CLASS_MAPPINGS[node].INPUT_TYPES()["required"]["model"][0]
    assert shown == ["embedded", "vd.safetensors"]
    assert pack.NODE_CLASS_MAPPINGS[node].VALIDATE_INPUTS("sdxl.safetensors") is True  # hidden, not refused


def test_an_example_is_the_picture_of_its_name_and_style(example):
    image, mask = example.execute("strawberry", "noto", "thing")
    with Image.open(ROOT / "workflows" / "input" / "strawberry.png") as picture:
        assert torch.equal(image, from_pil([picture.convert("RGB")]).movedim(1, -1))
    assert mask.shape == (1, 64, 64) and 0.2 < mask.mean() < 0.8


def test_masks_cover_what_they_name(example):
    masks = {
        name: example.execute("sun", "3d", name)[1]
        for name in ("thing", "background", "right half", "lower half")
    }
    assert torch.equal(masks["thing"], 1 - masks["background"])
    assert masks["right half"][0, :, 32:].all() and not masks["right half"][0, :, :32].any()
    assert masks["lower half"][0, 32:].all() and not masks["lower half"][0, :32].any()


def test_a_pair_that_does_not_exist_is_refused(example):
    types = example.INPUT_TYPES()["required"]
    refused = []
    for name in types["name"][0]:
        for style in types["style"][0]:
            try:
                example.execute(name, style, "thing")
            except ValueError as error:
                refused.append(str(error))
    assert len(refused) == 1 and "choose another style" in refused[0]


@pytest.mark.parametrize(
    "name",
    [3, 1.5, True, [], {}, ["x"] * 10_000, "\0", "a" * 5000, "é" * 200, "\ud800", "x\n", "\x1b[2J", "../x"],
    ids=lambda name: repr(name)[:12],
)
def test_a_model_name_that_is_none_is_one_clean_sentence(pack, name):
    """Before the graph runs, at every loader; what a workflow file holds may be of any type."""
    checks = [
        cls.VALIDATE_INPUTS for cls in pack.NODE_CLASS_MAPPINGS.values() if hasattr(cls, "VALIDATE_INPUTS")
    ]
    assert len(checks) == 8
    for check in checks:
        said = check(name)
        assert isinstance(said, str) and said.isprintable() and said.endswith(".") and len(said) < 1500
