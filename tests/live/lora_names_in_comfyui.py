"""Inside ComfyUI: core's LoRA loader on files in the names of four programs, against vd_core's merged
weights.

usage: lora_names_in_comfyui.py FOLDER COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
FOLDER: base.safetensors, and for each naming NAMING.safetensors and merged-NAMING.safetensors, which is the
base with it at STRENGTH. Prints as JSON {naming: [layers that core patches, |difference| / |expected value|
of what KSampler draws, the same of the base without the LoRA]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from pack_in_comfyui import difference, part, start
from torch import Tensor

FOLDER = Path(sys.argv[1])
STRENGTH = 0.1


def measure() -> dict[str, tuple[int, float, float]]:
    """Draw with core's loader, and with merged weights."""
    import nodes as core

    load_flow, context = part("nodes.host.comfyui.files").load_flow, part("vd_core.context").Context
    generator = torch.Generator().manual_seed(1)
    plain = load_flow(FOLDER / "base.safetensors", "image", "text", "fp32")
    width = plain.model.vd_config.diffuser.context["text"]
    tokens = torch.randn(2, 5, width, generator=generator).split(1)
    pair = part("nodes.conditioning").to_conditioning([context("text", *tokens)])

    def sample(model) -> Tensor:
        latent = {"samples": torch.zeros(1, plain.model.sizes.channels, 8, 8)}
        return core.KSampler().sample(model, 7, 4, 2.0, "euler", "normal", *pair, latent)[0]["samples"]

    found, before = {}, sample(plain)
    for path in sorted(FOLDER.glob("merged-*.safetensors")):
        naming = path.stem.removeprefix("merged-")
        loaded = core.LoraLoaderModelOnly().load_lora_model_only(plain, f"{naming}.safetensors", STRENGTH)[0]
        expected = sample(load_flow(path, "image", "text", "fp32"))
        found[naming] = (
            len(loaded.patches),
            difference(sample(loaded), expected),
            difference(before, expected),
        )
    return found


if __name__ == "__main__":
    start(sys.argv[2:])
    import folder_paths

    folder_paths.add_model_folder_path("loras", str(FOLDER))
    with torch.inference_mode():
        print(json.dumps(measure()))
