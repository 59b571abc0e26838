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
    """Look at the stacks where both networks read a context for the first time."""
    nodes = start(sys.argv[1:])
    from comfy.ldm.modules.attention import SpatialTransformer

    host, embedded = part("nodes.host.comfyui.files"), part("vd_core.embedded").MODEL
    context_layer = part("vd_core.diffuser.context_layers").ContextLayer
    context = nodes["VD_TextContext"]().execute(host.load_clip(embedded), "red apple", "")
    own_guidance = nodes["VD_ContextGuidance"]().execute(*context, 0.5)
    stacks = []

    def look(layer, inputs) -> None:
        files = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
        own = [name for file, name in files if file.is_relative_to(ROOT)]
        stacks.append(own[own.index("execute") : -1])  # the last one is this function

    def find_frames(data: str, side: int, conditionings: tuple) -> list[str]:
        stacks.clear()
        model = host.load_flow(embedded, data, "all", "fp32")
        for layer in model.model.diffusion_model.modules():
            if isinstance(layer, (SpatialTransformer, context_layer)) and hasattr(layer, "norm"):
                layer.norm.register_forward_pre_hook(look)
        latent = {"samples": torch.zeros(1, model.model.sizes.channels, side, side)}
        options = (1, 1, 2.0, "ddim", 0.0, 0.0, "per sample")
        nodes["VD_Sampler"]().execute(model, *conditionings, latent, *options)
        return stacks[0]

    with torch.inference_mode():
        found = {
            "image": find_frames("image", 8, context),
            "image, own guidance": find_frames("image", 8, own_guidance),
            "text": find_frames("text", 1, context),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
