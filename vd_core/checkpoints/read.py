"""Open weights of any kind:

one file, a folder with one model's weights, or a folder of a diffusers pipeline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..foreign import printable
from .faults import list_keys
from .formats import WeightsFile, read_file, resolve_existing
from .pipeline_config import read_json, read_part_config, read_pipeline_config

DIFFUSERS_FOLDERS = ("image_unet", "text_unet", "vae", "text_encoder", "image_encoder")
# Hugging Face's names, full precision before half. Those of the index of several files differ between
# versions.
WEIGHT_NAMES = tuple(
    f"{stem}{variant}{ending}"
    for ending, stems in (
        (".safetensors", ("diffusion_pytorch_model", "model")),
        (".bin", ("diffusion_pytorch_model", "pytorch_model")),
    )
    for variant in ("", ".fp16")
    for stem in stems
)
INDEX = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(\.fp16)?\.(safetensors|bin)\.index(\.fp16)?\.json"
)
# The text-to-image pipeline saves the contexts of its two UNets exchanged.
EXCHANGED = "VersatileDiffusionTextToImagePipeline"
DUAL = re.compile(r"(.*\.attentions\.\d+\.)transformers\.([01])\.(.*)")


class Joined(Mapping):
    """Several mappings as one. places:

    name -> where it lies, (mapping, key) once or several times with equal values.
    """

    def __init__(self, members: dict[str, Mapping[str, Tensor]], places: dict[str, list[tuple[str, str]]]):
        self.members, self.places = members, places

    def __getitem__(self, name: str) -> Tensor:
        (member, key), *copies = self.places[name]
        tensor = self.members[member][key]
        for other, again in copies:
            if not torch.equal(tensor, self.members[other][again]):
                raise ValueError(
                    f"{member}/{key} and {other}/{again} are one tensor, but have different values."
                )
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def read(path: str | Path) -> WeightsFile:
    """Open a safetensors file, a file of `torch.save`, a diffusers folder, or a folder with one model's
    weights.

    Raises FileNotFoundError for a missing path or part of it, ValueError for everything that holds no weights
    or must not be opened.
    """
    path = resolve_existing(path)
    return read_folder(path) if path.is_dir() else read_file(path)


def read_folder(path: Path) -> WeightsFile:
    """Open a diffusers folder (one subfolder per part), or a folder with the weights of one model.

    Keys start with "SUBFOLDER/", and contexts have the places that they have in the whole pipeline, image
    contexts in image_unet and text contexts in text_unet, whichever pipeline saved them. Its header has the
    sizes that the config.json files state.
    """
    if find_weights(path) is not None:
        weights, config = read_weights_in(path), read_part_config(path)
        if not any(DUAL.fullmatch(key) for key in weights):
            return WeightsFile(path, weights, make_header(config))
        members, exchanged = {"image_unet": weights}, False
    else:
        members = {name: read_weights_in(path / name) for name in DIFFUSERS_FOLDERS if (path / name).is_dir()}
        exchanged = read_json(path / "model_index.json").get("_class_name") == EXCHANGED
        config = read_pipeline_config(path, members, exchanged)
    if not members:
        raise ValueError(
            f"{path} is not a diffusers folder: none of its subfolders {', '.join(DIFFUSERS_FOLDERS)} holds "
            f"a weights file such as {WEIGHT_NAMES[0]}."
        )
    places: dict[str, list[tuple[str, str]]] = {}
    for member, weights in members.items():
        for key in weights:
            places.setdefault(translate_name(member, key, exchanged), []).append((member, key))
    return WeightsFile(path, Joined(members, places), make_header(config))


def make_header(config: dict[str, Any] | None) -> dict[str, str]:
    """Return a header that states sizes, as one of our own files has it."""
    return {} if config is None else {"vd_config": json.dumps(config)}


def translate_name(member: str, key: str, exchanged: bool) -> str:
    """Return the name that a key of a pipeline has in the whole pipeline."""
    other = {"image_unet": "text_unet", "text_unet": "image_unet"}.get(member, member)
    # the dual-guided pipeline's image_unet: image contexts, then text contexts
    if dual := DUAL.fullmatch(key):
        return f"{member if dual[2] == '0' else other}/{dual[1]}{dual[3]}"
    return f"{other if exchanged and '.attentions.' in key else member}/{key}"


def find_weights(folder: Path) -> Path | None:
    """Find the weights file of a folder in the naming of Hugging Face, or the index of several; None if it
    has neither."""
    files = [folder / name for name in WEIGHT_NAMES if (folder / name).is_file()]
    indexes = sorted(
        (path for path in folder.iterdir() if INDEX.fullmatch(path.name)), key=lambda path: len(path.name)
    )
    return next(iter([*files, *indexes]), None)


def read_weights_in(folder: Path) -> Mapping[str, Tensor]:
    """Return the weights of a folder, in one file or in several. Raises ValueError where there are none."""
    path = find_weights(folder)
    if path is None:
        raise ValueError(
            f"{folder} holds no weights file such as {WEIGHT_NAMES[0]}: complete the folder, or remove it."
        )
    return read_file(resolve_existing(path)).weights if path.suffix != ".json" else read_shards(path)


def read_shards(index: Path) -> Mapping[str, Tensor]:
    """Return the weights of several files, as their index distributes them.

    Raises FileNotFoundError for a file that is missing, ValueError for an index that is damaged, names files
    of other folders, or does not agree with its files.
    """
    places = read_json(index).get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(name, str) for name in places.values())
    ):
        raise ValueError(f"{index} is no index of weights: it needs a weight_map of keys and file names.")
    names = sorted(set(places.values()))
    if strangers := [name for name in names if Path(name).name != name or "\\" in name or name == ".."]:
        raise ValueError(f"{index} names a file outside of its folder, {printable(strangers[0])}.")
    if folders := [name for name in names if resolve_existing(index.with_name(name)).is_dir()]:
        raise ValueError(f"{index} names a folder in place of a file, {printable(folders[0])}.")
    members = {name: read_file(resolve_existing(index.with_name(name))).weights for name in names}
    if missing := [key for key, name in places.items() if key not in members[name]]:
        raise ValueError(f"{index} does not agree with its files: they lack {list_keys(missing, 'key')}.")
    if unknown := [key for name, member in members.items() for key in member if places.get(key) != name]:
        raise ValueError(
            f"{index} does not agree with its files: it does not name {list_keys(unknown, 'key')} of them."
        )
    return Joined(members, {key: [(name, key)] for key, name in places.items()})
