"""LoRA files of Stable Diffusion 1.5 that public libraries named: Load LoRA (VD) in ComfyUI, core's own
loader, and vd_core on the same file."""

import pytest
import torch
from lora_files import KEYS, values
from safetensors.torch import save_file

from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.write import save_model

pytestmark = pytest.mark.comfyui

STRENGTH = 0.1


@pytest.fixture(scope="module")
def found(inside, model, vocabularies, tmp_path_factory):
    """{naming: what lora_names_in_comfyui.py prints of it}."""
    folder = tmp_path_factory.mktemp("loras")
    save_model(folder / "base.safetensors", model, vocabularies)
    for naming in KEYS:
        path = folder / f"{naming}.safetensors"
        save_file(values(naming), path)
        merged = folder / f"merged-{naming}.safetensors"
        convert(folder / "base.safetensors", merged, dtype=torch.float32, loras=[(path, STRENGTH)])
    return inside(
        "lora_names_in_comfyui.py", str(folder), "--fp32-text-enc", "--use-pytorch-cross-attention"
    )[0]


@pytest.mark.parametrize(
    "naming, unet, text",
    [("peft", 83, 0), ("diffusers", 83, 12), ("kohya", 83, 12), ("2023", 32, 0), ("lycoris", 2, 0)],
)
def test_both_hosts_give_the_same(found, naming, unet, text):
    *layers, difference = found[naming]["ours"]
    effect, effect_on_text = found[naming]["effect"]
    print(f"{naming}: {layers} layers, {difference:.2g} from merged weights, which change {effect:.2g}")
    print(f"tokens: {found[naming]['text']:.2g} from merged weights, which change {effect_on_text:.2g}")
    assert layers == [unet, text] and difference <= 1e-5 and effect > 1e-3
    assert found[naming]["text"] <= 1e-5 and (effect_on_text > 1e-3) == (text > 0)


def test_what_cores_own_loader_reads_of_each(found):
    """It names what it leaves out in its log; what it reads whole it draws as ours."""
    counts = {naming: tuple(found[naming]["core"][:2]) for naming in found}
    assert counts == {
        "kohya": (83, 0),
        "diffusers": (51, 0),
        "peft": (0, 0),
        "2023": (32, 0),
        "lycoris": (2, 0),
    }
    assert all(found[naming]["core"][2] <= 1e-5 for naming in ("kohya", "2023", "lycoris"))
