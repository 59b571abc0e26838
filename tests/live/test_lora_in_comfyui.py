"""A LoRA of vd_core in ComfyUI's own loader does exactly what vd_core's merged weights do."""

from collections import Counter

import pytest
import torch

from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import save_lora
from vd_core.embedded import MODEL
from vd_core.training.lora import Lora, select

pytestmark = pytest.mark.comfyui
STRENGTH = 0.7


@pytest.fixture(scope="module", params=["context", "all"])
def run(request, inside, tmp_path_factory):
    """(differences found inside ComfyUI, what it warned of) with a LoRA on some layers of the embedded
    model."""
    folder = tmp_path_factory.mktemp("lora")
    diffuser = load(
        MODEL,
        parts=[f"diffuser.{group}.{kind}" for group in ("context", "data") for kind in ("image", "text")],
    ).diffuser
    torch.manual_seed(0)
    layers = {"context": ["context:attn"], "all": ["context", "data", "time_embed"]}[request.param]
    lora = Lora(diffuser, select(diffuser, layers), 4, 2.0)
    for layer in lora.layers:
        torch.nn.init.normal_(layer.up, std=0.1)
    save_lora(folder / "lora.safetensors", lora.changes(), diffuser.config, ["image", "text"])
    convert(
        MODEL,
        folder / "merged.safetensors",
        dtype=torch.float32,
        loras=[(folder / "lora.safetensors", STRENGTH)],
    )
    return inside("lora_in_comfyui.py", str(folder), "--fp32-text-enc", "--use-pytorch-cross-attention")


def test_core_loads_it_as_vd_core_merges_it(run):
    differences, _ = run
    for start, limit in (("merged", 1e-5), ("strength 0", 0.0), ("taken out", 0.0)):
        found = {name: value for name, value in differences.items() if name.startswith(start)}
        print(f"{start}: at most {max(found.values()):.2g}")
        assert len(found) == 4 and max(found.values()) <= limit, found
    assert min(value for name, value in differences.items() if name.startswith("effect")) > 1e-3, differences


def test_each_key_is_known_to_exactly_one_of_the_models(run):
    """Core warns of keys that a MODEL does not have; each of the two is given the file twice."""
    warned = Counter(
        line.split("lora key not loaded: ")[1]
        for line in run[1].splitlines()
        if "lora key not loaded: " in line
    )
    assert len(warned) > 100 and set(warned.values()) == {2}
    assert "ERROR" not in run[1]
