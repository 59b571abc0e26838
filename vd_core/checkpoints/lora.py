"""LoRA files (Hu et al. 2022): small changes of a diffuser's weights, under names that ComfyUI's own LoRA loader knows too.

In ComfyUI the MODEL that makes pictures is its UNet, with the transformers of text contexts under Stable Diffusion's names and those of
other kinds beside them; the MODEL that makes texts has our own names. A file holds each layer under the names of the MODELs it is for.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import DiffuserConfig
from ..diffuser.model import Diffuser
from .key_maps import KeyMap, unet_model
from .read import read
from .write import write_safetensors

log = logging.getLogger(__name__)

PREFIX = "diffusion_model."
LEAVES = (("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight"))  # of PEFT, which we write, and of kohya


class Change(NamedTuple):
    """The change of one layer's weight: alpha / rank · up @ down.

    down: [rank, inputs, …kernel]. up: [outputs, rank] or [outputs, rank, 1, 1].
    """

    down: Tensor
    up: Tensor
    alpha: float

    def delta(self, strength: float = 1.0) -> Tensor:
        """What is added to the weight, [outputs, inputs, …kernel], in float32; computed as ComfyUI does."""
        product = torch.mm(self.up.float().flatten(1), self.down.float().flatten(1))
        return (strength * (self.alpha / len(self.down))) * product.reshape(len(self.up), *self.down.shape[1:])


def adaptable(diffuser: Diffuser) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers that a LoRA can change, by their names."""
    return {name: module for name, module in diffuser.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}


def file_names(layers: Iterable[str], config: DiffuserConfig, data: Collection[str]) -> dict[str, list[str]]:
    """The names of the diffuser's layers in the MODELs of the output kinds `data`; none for a layer that they do not have.

    Raises ValueError for two kinds of pictures: both would have the same names.
    """
    maps = {kind: KeyMap(unet_model(config, kind, config.context)) for kind in data if config.data[kind].layers == "2d"}
    if len(maps) > 1:
        raise ValueError(f"A LoRA file is for one kind of pictures, not for {' and '.join(maps)}: write one file for each.")

    def name_in(kind: str, layer: str) -> list[str]:
        if kind in maps:
            return [place.key.removesuffix(".weight") for place in maps[kind].theirs(f"diffuser.{layer}.weight")]
        return [layer] if not layer.startswith("data.") or layer.startswith(f"data.{kind}.") else []

    return {layer: [PREFIX + name for name in dict.fromkeys(name for kind in data for name in name_in(kind, layer))] for layer in layers}


def save_lora(
    path: str | Path, changes: Mapping[str, Change], config: DiffuserConfig, data: Collection[str], dtype: torch.dtype | None = None
) -> None:
    """Write changes, by layer names of the diffuser, for the MODELs of the output kinds `data`."""
    tensors: dict[str, Tensor] = {}
    for layer, names in file_names(changes, config, data).items():
        down, up, alpha = changes[layer]
        for name in names:
            tensors |= dict(zip((f"{name}.{leaf}" for leaf in LEAVES[0]), (down, up), strict=True))
            tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    write_safetensors(path, tensors, {"format": "pt", "vd_lora": ", ".join(data)}, dtype)


def read_lora(path: str | Path, diffuser: Diffuser) -> dict[str, Change]:
    """The changes in a file, by the names of the layers of `diffuser`; what changes other layers is left out with a warning.

    Files of `save_lora`, and files for Stable Diffusion 1 in the names of kohya or of its UNet, which change the text context layers.
    Raises ValueError for a file that changes nothing here, for other methods than LoRA, and for shapes that do not fit.
    """
    file = read(path)
    weights, made_for = file.weights, file.metadata.get("vd_lora", "").split(", ")
    if others := [key for key in weights if key.endswith((".dora_scale", ".lora_mid.weight")) or ".hada_" in key or ".lokr_" in key]:
        raise ValueError(f"{path} is no plain LoRA ({others[0]}): only ComfyUI can apply it.")
    layers = adaptable(diffuser)
    changes, used = {}, set()
    # Two kinds of pictures have the same names in their MODELs: our own files say which one they are for.
    kinds = [kind for kind in diffuser.data if kind in made_for] or list(diffuser.data)
    for layer, names in file_names(layers, diffuser.config, kinds).items():
        for name in [*names, *(f"lora_unet_{name.removeprefix(PREFIX).replace('.', '_')}" for name in names)]:
            for leaves in LEAVES:
                keys = [f"{name}.{leaf}" for leaf in leaves]
                if all(key in weights for key in keys):
                    down, up = (weights[key] for key in keys)
                    alpha = float(weights[f"{name}.alpha"]) if f"{name}.alpha" in weights else float(len(down))
                    changes[layer] = Change(down, up, alpha)
                    used |= {*keys, f"{name}.alpha"}
                    check(path, keys[1], changes[layer], layers[layer].weight.shape)
    if not changes:
        raise ValueError(f"{path} changes none of the layers of this model: {', '.join(list(weights)[:2])}, ….")
    if unused := weights.keys() - used:
        log.warning("%s has %d tensors for layers that are not loaded, such as %s", path, len(unused), min(unused))
    return changes


def check(path: str | Path, key: str, change: Change, shape: torch.Size) -> None:
    """Raise a ValueError unless a change fits a weight of that shape."""
    found = [len(change.up), *change.down.shape[1:]]
    # 1x1 convolutions are matrices in some files.
    if change.up.flatten(1).shape[1] != len(change.down) or found != list(shape) and [*found, 1, 1] != list(shape):
        raise ValueError(f"{key} in {path} changes a weight of shape {found} where this model has {list(shape)}.")


def merged(weight: Tensor, change: Change, strength: float = 1.0) -> Tensor:
    """A weight with a change added to it, rounded once to the weight's precision; at strength 0 the very weight."""
    if strength == 0:
        return weight
    return (weight.float() + change.delta(strength).reshape(weight.shape).to(weight.device)).to(weight.dtype)


@torch.no_grad()
def apply_lora(diffuser: Diffuser, path: str | Path, strength: float = 1.0) -> int:
    """Add a LoRA to the weights of a diffuser, `strength` times, and return how many layers it changes. Raises what `read_lora` raises."""
    changes, layers = read_lora(path, diffuser), adaptable(diffuser)
    for layer, change in changes.items():
        layers[layer].weight.copy_(merged(layers[layer].weight, change, strength))
    return len(changes)
