"""Inside ComfyUI: core's LoRA loader on files of vd_core, against the same LoRA merged into the weights by
vd_core.

usage: lora_in_comfyui.py FOLDER COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
FOLDER: lora.safetensors, and merged.safetensors, which is the embedded model with it at STRENGTH.
Prints as JSON {comparison: |difference| / |expected value|} of what KSampler draws and writes, and what
core's log warns of.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch
from pack_in_comfyui import difference, part, start
from torch import Tensor

FOLDER = Path(sys.argv[1])
STRENGTH = 0.7
SHAPES = {"image": (1, 16, 8, 8), "text": (1, 64, 1, 1)}


def measure(nodes: dict[str, type]) -> dict[str, float]:
    """Every flow with core's loader, and with merged weights."""
    import nodes as core

    found = {}
    files, embedded = part("nodes.host.comfyui.files"), part("vd_core.embedded").MODEL
    words = nodes["VD_TextContext"]().execute(files.load_clip(embedded), "red apple, 3d style", "")
    picture = torch.rand((1, 64, 64, 3), generator=torch.Generator().manual_seed(3))
    seen = nodes["VD_ImageContext"]().execute(files.load_clip_vision(embedded), picture, 0.5, 1.0, "zeros")
    for data, shape in SHAPES.items():
        plain, merged = (
            files.load_flow(path, data, "all", "fp32") for path in (embedded, FOLDER / "merged.safetensors")
        )
        for kind, (positive, negative) in (("text", words), ("image", seen)):

            def sample(model, positive=positive, negative=negative, shape=shape) -> Tensor:
                latent = {"samples": torch.zeros(shape)}
                return core.KSampler().sample(
                    model, 7, 4, 2.0, "euler", "normal", positive, negative, latent
                )[0]["samples"]

            def loaded(strength: float, plain=plain):
                return core.LoraLoaderModelOnly().load_lora_model_only(plain, "lora.safetensors", strength)[0]

            before, with_lora = sample(plain), sample(loaded(STRENGTH))
            flow = f"{kind} to {data}"
            found[f"merged, {flow}"] = difference(with_lora, sample(merged))
            found[f"effect, {flow}"] = difference(with_lora, before)
            found[f"strength 0, {flow}"] = difference(sample(loaded(0.0)), before)
            found[f"taken out, {flow}"] = difference(sample(plain), before)
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    nodes = start(sys.argv[2:])
    import folder_paths

    folder_paths.add_model_folder_path("loras", str(FOLDER))
    with torch.inference_mode():
        print(json.dumps(measure(nodes)))
