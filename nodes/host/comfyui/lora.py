"""LoRA files on MODEL and CLIP: read by vd_core, which knows the names that other programs give, patched by
core."""

from __future__ import annotations

from pathlib import Path

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, load_lora_for_models

from ....vd_core.diffuser.model import Diffuser
from .clip import find_projection
from .models import find_flow

TEXT_TOWER = "text_encoders.clip_l.transformer."  # core's own name of it in LoRA files


def load_lora(
    model: ModelPatcher, clip: CLIP | None, path: Path, strength: float
) -> tuple[ModelPatcher, CLIP | None]:
    """Add a LoRA file, `strength` times, to copies of a MODEL and of a CLIP. Raises ValueError for other
    models."""
    # They bring transformers, and ComfyUI shall start fast.
    from ....vd_core.checkpoints.lora import name_tensors, read_lora
    from ....vd_core.checkpoints.lora_changes import find_adaptable
    from ....vd_core.checkpoints.lora_names import list_file_names

    flow, tower = find_flow(model), None
    if clip is not None:
        find_projection(clip)
        tower = clip.cond_stage_model.clip_l.transformer
    config = flow.vd_config.diffuser
    with torch.device("meta"):  # the layers' names and sizes, as vd_core has them
        diffuser = Diffuser(config, [flow.data], list(flow.model_config.contexts))
    changes = read_lora(path, diffuser, tower)
    names = {
        f"diffuser.{layer}": found
        for layer, found in list_file_names(find_adaptable(diffuser), config, [flow.data]).items()
    }
    names |= {layer: [TEXT_TOWER + layer.removeprefix("clip_text.")] for layer in changes.keys() - names}
    return load_lora_for_models(model, clip, name_tensors(changes, names), strength, strength)
