"""Write our single-file layout, atomically and one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..config import VDConfig
from ..files import write_whole
from ..flows import VersatileDiffusion
from ..tokenizers import Vocabularies
from .faults import is_finite
from .formats import DTYPE_NAMES
from .key_maps import KeyMap, to_theirs
from .layouts import find_layout
from .parts import collect_state
from .vocabularies import to_tensors

FORMAT_VERSION = "1"


def make_metadata(config: VDConfig) -> dict[str, str]:
    """Return the header of our files: format version and model sizes."""
    return {"format": "pt", "vd_format": FORMAT_VERSION, "vd_config": json.dumps(config.to_dict())}


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a safetensors file, floating point tensors as `dtype` (None: as they are).

    Raises what `write_whole` raises, and ValueError for values that `dtype` cannot hold: nothing is left
    then.
    """
    with write_whole(path) as file:
        dump_safetensors(file, tensors, header, dtype)


def dump_safetensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], header: Mapping[str, str], dtype: torch.dtype | None = None
) -> None:
    """Write the safetensors format into an open file. One tensor at a time is in memory."""
    types = {
        key: dtype if dtype and tensor.is_floating_point() else tensor.dtype
        for key, tensor in tensors.items()
    }
    # Wide types first, as the safetensors library does: every tensor stays aligned to its type.
    order = sorted(tensors, key=lambda key: (-types[key].itemsize, key))
    entries: dict[str, dict] = {"__metadata__": dict(header)}
    end = 0
    for key in order:
        start, end = end, end + tensors[key].numel() * types[key].itemsize
        entries[key] = {
            "dtype": DTYPE_NAMES[types[key]],
            "shape": list(tensors[key].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries).encode()
    # Mapped into memory, the first tensor then starts as aligned as an allocated one: faster, and equal to
    # the last bit.
    text += b" " * (-(8 + len(text)) % 64)
    file.write(len(text).to_bytes(8, "little") + text)
    for key in order:
        file.write(to_bytes(key, tensors[key], types[key]))


def to_bytes(key: str, tensor: Tensor, dtype: torch.dtype) -> memoryview:
    """Return the bytes of one tensor as `dtype`."""
    cast = tensor.detach().to("cpu", dtype).contiguous()
    if cast.dtype != tensor.dtype and not is_finite(cast):
        raise ValueError(
            f"{key} has values beyond what {str(dtype).removeprefix('torch.')} can hold; choose bfloat16 or "
            "float32."
        )
    return cast.reshape(-1).view(torch.uint8).numpy().data


def save_model(
    path: str | Path,
    model: VersatileDiffusion,
    vocabularies: Vocabularies | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model, or the parts of it that are there, as a file of our own layout; with the vocabularies it
    is the whole model.
    """
    tensors = collect_state(model) | (to_tensors(vocabularies) if vocabularies else {})
    write_safetensors(path, tensors, make_metadata(model.config), dtype)


def export(state: Mapping[str, Tensor], layout: str, config: VDConfig) -> dict[str, Tensor]:
    """Rename our tensors as another layout does; those that it has no place for are left out.

    Raises ValueError for an unknown layout, or one that has a place for none of the tensors.
    """
    key_map = KeyMap(find_layout(layout).rules(config))
    pieces: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        for place in key_map.theirs(key):
            if place.also != "alias":
                pieces.setdefault(place.key, {})[place.change] = tensor
    if not pieces:
        raise ValueError(f"The layout {layout} has no place for any of these weights.")
    return {key: to_theirs(tensors) for key, tensors in pieces.items()}
