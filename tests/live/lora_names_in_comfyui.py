"""Inside ComfyUI: core's LoRA loader and Load LoRA (VD) on files in the names of four programs, against
vd_core's merged weights.

usage: lora_names_in_comfyui.py FOLDER COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
FOLDER: base.safetensors, and for each naming NAMING.safetensors and merged-NAMING.safetensors, which is the
base with it at STRENGTH. Prints as JSON {naming: {"ours", "core": [patched layers of the UNet, patched layers
of CLIP, |difference| / |expected value| of what KSampler draws], "text": that of our CLIP's tokens, "effect":
[that of the base without the LoRA, that of its tokens]}}.
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


def measure(nodes: dict[str, type]) -> dict[str, dict]:
    """Draw and encode with both loaders, and with merged weights."""
    import nodes as core

    files, context = part("nodes.host.comfyui.files"), part("vd_core.context").Context
    generator = torch.Generator().manual_seed(1)
    base = FOLDER / "base.safetensors"
    plain, clip = files.load_flow(base, "image", "text", "fp32"), files.load_clip(base)
    width = plain.model.vd_config.diffuser.context["text"]
    tokens = torch.randn(2, 5, width, generator=generator).split(1)
    pair = part("nodes.conditioning").to_conditioning([context("text", *tokens)])

    def sample(model) -> Tensor:
        latent = {"samples": torch.zeros(1, plain.model.sizes.channels, 8, 8)}
        return core.KSampler().sample(model, 7, 4, 2.0, "euler", "normal", *pair, latent)[0]["samples"]

    def encode(clip) -> Tensor:
        return part("nodes.host.comfyui.clip").encode_text(clip, ["a red apple"])

    found, before, words = {}, sample(plain), encode(clip)
    for path in sorted(FOLDER.glob("merged-*.safetensors")):
        naming = path.stem.removeprefix("merged-")
        name = f"{naming}.safetensors"
        ours, our_clip = nodes["VD_LoadLora"]().execute(plain, name, STRENGTH, clip)
        cores, core_clip = core.LoraLoader().load_lora(plain, clip, name, STRENGTH, STRENGTH)
        expected, tokens = (
            sample(files.load_flow(path, "image", "text", "fp32")),
            encode(files.load_clip(path)),
        )
        found[naming] = {
            "ours": (len(ours.patches), len(our_clip.patcher.patches), difference(sample(ours), expected)),
            "core": (len(cores.patches), len(core_clip.patcher.patches), difference(sample(cores), expected)),
            "text": difference(encode(our_clip), tokens),
            "effect": (difference(before, expected), difference(words, tokens)),
        }
    return found


if __name__ == "__main__":
    nodes = start(sys.argv[2:])
    import folder_paths

    folder_paths.add_model_folder_path("loras", str(FOLDER))
    with torch.inference_mode():
        print(json.dumps(measure(nodes)))
