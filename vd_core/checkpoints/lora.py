"""Read, write and apply LoRA files (Hu et al. 2022), our own and those for Stable Diffusion 1.

A file of ours holds each layer under the names that ComfyUI's own LoRA loader knows. The names of other
programs are in `lora_names.py`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import DiffuserConfig
from ..diffuser.model import Diffuser
from ..flows import VersatileDiffusion
from ..foreign import printable
from .faults import is_finite, list_keys
from .formats import WeightsFile
from .lora_changes import AnyChange, Change, HadamardChange, merge_changes, name_adaptable
from .lora_names import (
    NATIVE,
    ROLES,
    group_by_layer,
    list_file_names,
    list_text_encoder_names,
    list_unet_names,
    unet_key_map,
)
from .read import read
from .write import write_safetensors

log = logging.getLogger(__name__)

# of endings of keys that change weights otherwise
OTHER_METHODS = (".dora_scale", ".hada_t1", ".lokr_", ".oft_", ".diff", ".w_norm")
# that make up one change
MATRICES = {("down", "up"), ("down", "mid", "up"), ("w1_a", "w1_b", "w2_a", "w2_b")}


def save_lora(
    path: str | Path,
    changes: Mapping[str, Change],
    config: DiffuserConfig,
    data: Collection[str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write changes, by layer names of the diffuser, for the MODELs of the output kinds `data`."""
    tensors = name_tensors(changes, list_file_names(changes, config, data))
    write_safetensors(path, tensors, {"format": "pt", "vd_lora": ", ".join(data)}, dtype)


def name_tensors(changes: Mapping[str, AnyChange], names: Mapping[str, Collection[str]]) -> dict[str, Tensor]:
    """Return the tensors of changes as ComfyUI's own LoRA loader reads them. names: those of each layer."""
    return {
        name + ROLES[field.name][0]: torch.as_tensor(value)
        for layer, change in changes.items()
        for field in fields(change)
        if (value := getattr(change, field.name)) is not None
        for name in names[layer]
    }


def read_lora(
    path: str | Path, diffuser: Diffuser | None, text_tower: nn.Module | None = None
) -> dict[str, AnyChange]:
    """Read the changes in a file, by the names of the layers, "diffuser.…" and "clip_text.…".

    Files of `save_lora`, and files for Stable Diffusion 1 in the names of kohya, PEFT and diffusers, which
    change the layers of pictures, the text contexts, the time embedding and the text encoder. What changes
    other layers is counted and named in a warning.

    Raises ValueError for a file that changes nothing here, for other methods than LoRA, LoCon and LoHa, for
    shapes that do not fit, and for values that are not finite numbers.
    """
    path = Path(path)
    file = read(
        path / "adapter_model.safetensors" if (path / "adapter_model.safetensors").is_file() else path
    )
    if others := [key for key in file.weights if any(part in key for part in OTHER_METHODS)]:
        raise ValueError(f"{path} is no plain LoRA ({printable(others[0])}): only ComfyUI can apply it.")
    found = group_by_layer(file.weights)
    layers = name_adaptable(diffuser, text_tower)
    changes: dict[str, AnyChange] = {}
    for layer, names in list_names_in_files(
        layers, diffuser, file.metadata.get("vd_lora", "").split(", ")
    ).items():
        for name in names:
            keys = found.pop(name, {})
            # The time embedding lies in a file of ours once for each MODEL that has it.
            if keys and layer not in changes:
                changes[layer] = make_change(file, name, keys)
                check_shape(file.path, keys, changes[layer], layers[layer].weight.shape)
    if not changes:
        raise ValueError(
            f"{path} changes none of the layers of this model: "
            f"{', '.join(printable(key) for key in list(file.weights)[:2])}, …."
        )
    if unused := [key for keys in found.values() for key in keys.values()]:
        log.warning(
            "%s has %s; they are for layers that are not loaded here",
            path,
            list_keys(unused, "key that changes nothing"),
        )
    return changes


def list_names_in_files(
    layers: Collection[str], diffuser: Diffuser | None, made_for: Collection[str]
) -> dict[str, list[str]]:
    """List every name that a file may give to each layer.

    made_for: the kinds of data that a file of ours says it was made for.
    """
    names: dict[str, list[str]] = {layer: [] for layer in layers}
    if diffuser is not None:
        own = [layer.removeprefix("diffuser.") for layer in layers if layer.startswith("diffuser.")]
        # Two kinds of pictures have the same names in their MODELs: our own files say which one they are for.
        kinds = [kind for kind in diffuser.data if kind in made_for] or list(diffuser.data)
        for layer, native in list_file_names(own, diffuser.config, kinds).items():
            kohya = [f"lora_unet_{name.removeprefix(NATIVE).replace('.', '_')}" for name in native]
            names[f"diffuser.{layer}"] += [*native, *kohya]
        for kind in (kind for kind in kinds if diffuser.config.data[kind].layers == "2d"):
            key_map = unet_key_map(diffuser.config, kind)
            for layer in own:
                names[f"diffuser.{layer}"] += list_unet_names(layer, key_map)
    for layer in layers:
        if layer.startswith("clip_text."):
            names[layer] += list_text_encoder_names(layer.removeprefix("clip_text."))
    return names


def make_change(file: WeightsFile, name: str, keys: Mapping[str, str]) -> AnyChange:
    """Return the change of the layer that a file calls `name`. keys: its keys by their role.

    Raises ValueError for what is no change.
    """
    roles = tuple(sorted(keys.keys() - {"alpha"}))
    if roles not in MATRICES:
        raise ValueError(
            f"{file.path} changes {printable(name)} by {' and '.join(roles)} alone, which is no LoRA."
        )
    tensors = {role: file.weights[keys[role]] for role in roles}
    for role, tensor in tensors.items():
        key = printable(keys[role])
        if tensor.ndim < 2 or 0 in tensor.shape or not tensor.is_floating_point():
            raise ValueError(
                f"{key} in {file.path} is {list(tensor.shape)} {tensor.dtype} where a matrix of a LoRA is "
                "needed."
            )
        if not is_finite(tensor):
            raise ValueError(f"{key} in {file.path} has values that are not finite numbers.")
    outer, inner = ("up", "down") if "up" in roles else ("w1_a", "w1_b")
    if tensors[outer].flatten(1).shape[1] != len(tensors[inner]):
        ranks = f"{tensors[outer].flatten(1).shape[1]} in one half and {len(tensors[inner])} in the other"
        raise ValueError(f"The LoRA of {printable(name)} in {file.path} has rank {ranks}.")
    alpha = find_alpha(file, name, keys, len(tensors[inner]))
    return Change(alpha=alpha, **tensors) if "up" in roles else HadamardChange(alpha=alpha, **tensors)


def find_alpha(file: WeightsFile, name: str, keys: Mapping[str, str], rank: int) -> float:
    """Find the alpha of a change: in its own key, else in the adapter's settings, else its rank.

    The settings are PEFT's: in the header of a file of diffusers, or in `adapter_config.json` beside the
    file.
    """
    if "alpha" in keys:
        tensor = file.weights[keys["alpha"]]
        if tensor.numel() != 1 or tensor.dtype == torch.bool or not is_finite(tensor):
            raise ValueError(
                f"{printable(keys['alpha'])} in {file.path} is {list(tensor.shape)} {tensor.dtype} where one "
                "number is needed."
            )
        return float(tensor)
    settings = read_adapter_settings(file)
    prefix = next((part for part in ("unet.", "text_encoder.") if name.startswith(part)), "")
    alpha = settings.get(f"{prefix}lora_alpha", rank)
    patterns = settings.get(f"{prefix}alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if name.endswith(pattern):
            alpha = value
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise ValueError(f"The settings of the LoRA {file.path} give it an alpha that is no number.")
    return alpha * math.sqrt(rank) if settings.get(f"{prefix}use_rslora") is True else float(alpha)


def read_adapter_settings(file: WeightsFile) -> dict:
    """Read PEFT's settings of a file, if it has any."""
    beside = file.path.with_name("adapter_config.json")
    try:
        text = file.metadata.get("lora_adapter_metadata") or (
            beside.read_text("utf-8") if beside.is_file() else "{}"
        )
        settings = json.loads(text)
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"The settings of the LoRA {file.path} cannot be read.") from error
    return settings if isinstance(settings, dict) else {}


def check_shape(path: Path, keys: Mapping[str, str], change: AnyChange, shape: torch.Size) -> None:
    """Raise a ValueError unless a change fits a weight of that shape."""
    if isinstance(change, HadamardChange):
        pairs = ((change.w1_a, change.w1_b), (change.w2_a, change.w2_b))
        fits = all(
            a.ndim == b.ndim == 2
            and a.shape[1] == len(b)
            and (len(a), b.shape[1]) == (shape[0], shape[1:].numel())
            for a, b in pairs
        )
        found = [len(change.w1_a), *change.w1_b.shape[1:]]
    else:
        found = [
            len(change.up),
            change.down.shape[1],
            *(change.down if change.mid is None else change.mid).shape[2:],
        ]
        # 1x1 convolutions are matrices in some files.
        fits = found == list(shape) or [*found, 1, 1] == list(shape) or found == [*shape, 1, 1]
    if not fits:
        key = printable(keys.get("up", keys.get("w1_a", "")))
        raise ValueError(
            f"{key} in {path} changes a weight of shape {found} where this model has {list(shape)}."
        )


def apply_lora(model: VersatileDiffusion, path: str | Path, strength: float = 1.0) -> int:
    """Add a LoRA to the weights of a model, `strength` times, and return how many layers it changes.

    Nothing is changed if anything is wrong. Raises what `read_lora` and `merge_changes` raise.
    """
    diffuser = model.parts.get("diffuser")
    text_tower = model.clip.text_tower if "clip" in model.parts else None
    changes = read_lora(path, diffuser, text_tower)
    merge_changes(name_adaptable(diffuser, text_tower), changes, strength)
    return len(changes)
