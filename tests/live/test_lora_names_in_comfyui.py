"""LoRA files of Stable Diffusion 1.5 that public libraries named: core's loader and vd_core's on the same
file."""

import gzip
import json

import pytest
import torch
from safetensors.torch import save_file

from runner.pack import ROOT
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.write import save_model

pytestmark = pytest.mark.comfyui

KEYS = json.loads(gzip.decompress((ROOT / "tests" / "golden" / "lora" / "keys.json.gz").read_bytes()))
STRENGTH = 0.1


@pytest.fixture(scope="module")
def found(inside, model, vocabularies, tmp_path_factory):
    """{naming: (layers that core patches, difference to vd_core, that of the base)}."""
    folder = tmp_path_factory.mktemp("loras")
    save_model(folder / "base.safetensors", model, vocabularies)
    for naming, shapes in KEYS.items():
        generator = torch.Generator().manual_seed(0)
        tensors = {
            key: torch.tensor(6.0) if key.endswith(".alpha") else torch.randn(shape, generator=generator)
            for key, shape in sorted(shapes.items())
        }
        path = folder / f"{naming}.safetensors"
        save_file(tensors, path)
        merged = folder / f"merged-{naming}.safetensors"
        convert(folder / "base.safetensors", merged, dtype=torch.float32, loras=[(path, STRENGTH)])
    return inside("lora_names_in_comfyui.py", str(folder), "--use-pytorch-cross-attention")[0]


@pytest.mark.parametrize("naming, count", [("kohya", 83), ("2023", 32)])
def test_both_give_the_same(found, naming, count):
    layers, difference, effect = found[naming]
    print(f"{naming}: {layers} layers, {difference:.2g} from merged weights, which change {effect:.2g}")
    assert layers == count and difference <= 1e-5 and effect > 1e-3


def test_what_cores_loader_leaves_out_of_the_other_names_is_known(found):
    """vd_core reads all 83 layers of each; core's own loader, which LoRA nodes use, names the others in its
    log."""
    assert (found["diffusers"][0], found["peft"][0]) == (51, 0)
