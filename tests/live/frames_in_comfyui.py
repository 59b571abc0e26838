"""Inside ComfyUI: the pack's own functions on the way from the sampler node to a context layer, as JSON.

usage: frames_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import torch
from pack_in_comfyui import part, start

from runner.pack import ROOT


def main() -> None:
    """Look at the stack where the network reads the context for the first time."""
    nodes = start(sys.argv[1:])
    from comfy.ldm.modules.attention import SpatialTransformer

    host, embedded = part("nodes.host.comfyui.files"), part("vd_core.embedded").MODEL
    model, clip = host.load_flow(embedded, "image", "all", "fp32"), host.load_clip(embedded)
    context = nodes["VD_TextContext"]().execute(clip, "red apple", "")
    stacks = []

    def look(layer, inputs) -> None:
        files = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        own = [name for file, name in files if file.is_relative_to(ROOT)]
        stacks.append(own[own.index("execute") : -1])  # the last one is this function

    for layer in model.model.diffusion_model.modules():
        if isinstance(layer, SpatialTransformer) and hasattr(layer, "transformer_blocks"):
            layer.transformer_blocks[0].register_forward_pre_hook(look)
    latent = {"samples": torch.zeros(1, 16, 8, 8)}
    options = (1, 1, 2.0, "ddim", 0.0, 0.0, "per sample")
    with torch.inference_mode():
        nodes["VD_Sampler"]().execute(model, *context, latent, *options)
    print(json.dumps(stacks[0]))


if __name__ == "__main__":
    main()
