"""From files to modules: open, detect, rename, check by name, build empty, assign."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config import VDConfig
from ..flows import VersatileDiffusion
from ..foreign import quote_error
from ..placement import check_dtype, resolve_device
from ..tokenizers import Vocabularies
from .faults import Faults, list_keys
from .formats import WeightsFile
from .hub import find_snapshot, is_name
from .key_maps import KeyMap, Place, to_ours
from .layouts import LAYOUTS, Layout, detect
from .parts import build, collect_modules, collect_state, list_parts
from .published import list_published
from .read import read
from .vocabularies import explain_missing, find_vocabularies, from_tensors

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Checkpoint:
    """A file of any layout, seen through our keys.

    keys: our keys that the file holds, by part, each with the places in the file where it lies.
    """

    file: WeightsFile
    layout: Layout
    key_map: KeyMap
    keys: dict[str, dict[str, list[Place]]]

    def read_tensor(self, part: str, key: str) -> Tensor:
        """Read one tensor. Raises ValueError if the file holds it twice with different values."""
        place, *copies = self.keys[part][key]
        tensor = self.file.weights[place.key]
        for copy in copies:
            if not torch.equal(tensor, self.file.weights[copy.key]):
                raise ValueError(
                    f"{self.file.path} holds one tensor twice with different values: {place.key} and "
                    f"{copy.key}."
                )
        return to_ours(place.change, tensor)


def open_checkpoints(
    paths: Paths, config: VDConfig | None = None, layouts: Sequence[Layout] = LAYOUTS
) -> tuple[list[Checkpoint], VDConfig]:
    """Open one or several files that make up one model, in any of the layouts, and find its sizes.

    The sizes are `config`, else those that a file of ours carries, else those of Versatile Diffusion v1.0.
    Raises FileNotFoundError and ValueError as `read` and `detect` do, and ValueError for keys that do not
    belong to a layout.
    """
    several = list(paths) if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
    if not all(isinstance(path, str | Path) for path in several):
        raise ValueError(f"What is loaded are paths, or OWNER/NAME of the hub, got {paths!r}.")
    files = [read(path) for path in several]
    if not files:
        raise ValueError("No file was given to load.")
    carried = [read_file_config(file) for file in files if "vd_config" in file.metadata]
    config = config or (carried[0] if carried else VDConfig())
    return [open_checkpoint(file, config, layouts) for file in files], config


def read_file_config(file: WeightsFile) -> VDConfig:
    """Return the sizes in the header of one of our files."""
    try:
        return VDConfig.from_dict(json.loads(file.metadata["vd_config"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"The model sizes (vd_config) in {file.path} cannot be understood: {error}."
        ) from error


def open_checkpoint(file: WeightsFile, config: VDConfig, layouts: Sequence[Layout]) -> Checkpoint:
    """See one file through our keys; no tensor is read."""
    names = list(file.weights)
    layout = detect(names, file.path, layouts)
    key_map, present = KeyMap(layout.rules(config)), set(names)
    keys: dict[str, dict[str, list[Place]]] = {}
    unknown, parts = [], list_parts(config)
    for name in names:
        if layout.ignores(name):
            continue
        places = {
            key: [place for place in key_map.theirs(key) if place.key in present]
            for key in key_map.ours(name)
        }
        if not any(places.values()):
            unknown.append(name)
        for key in places:
            part = next(part for part in parts if key.startswith(f"{part}."))
            keys.setdefault(part, {})[key] = places[key]
    if unknown:
        sizes = (
            " A model of other sizes than Versatile Diffusion v1.0 needs its config."
            if config == VDConfig()
            else ""
        )
        raise ValueError(f"{file.path} ({layout.title}) has {list_keys(unknown, 'unknown key')}.{sizes}")
    return Checkpoint(file, layout, key_map, keys)


def read_part(
    checkpoint: Checkpoint,
    part: str,
    empty: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    copy: bool = False,
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of one part by our keys, and what is wrong with them, under the names in the file.

    empty: the tensors of the model, of which the shape and the type count. dtype, copy: as in `read_parts`.
    """
    held = checkpoint.keys[part]
    names = {key: places[0].key for key, places in held.items()}
    wanted = {key: tensor for key, tensor in empty.items() if key.startswith(f"{part}.")}
    missing = [
        next((place.key for place in checkpoint.key_map.theirs(key)), key)
        for key in wanted.keys() - held.keys()
    ]
    faults = Faults(missing, [names[key] for key in held.keys() - wanted.keys()])
    tensors = {}
    for key in (key for key in wanted if key in held):
        like = wanted[key]
        tensor = faults.take(
            names[key],
            checkpoint.read_tensor(part, key),
            like.shape,
            floating=like.is_floating_point(),
            dtype=dtype,
            copy=copy,
        )
        if tensor is not None:
            tensors[key] = tensor
    return tensors, faults.describe()


def read_parts(
    sources: Mapping[str, Checkpoint],
    model: VersatileDiffusion,
    dtype: torch.dtype | None = None,
    copy: bool = False,
) -> dict[str, Tensor]:
    """Return the tensors of the given parts, from the file chosen for each, by our keys.

    dtype: of floating point tensors, None = as they are. copy: whether they leave the file, so that changing
    it later changes nothing here; without it they are mapped where they need not be cast.

    Raises ValueError for parts that do not fit the model.
    """
    empty = collect_state(model)
    state: dict[str, Tensor] = {}
    for part, checkpoint in sources.items():
        tensors, faults = read_part(checkpoint, part, empty, dtype, copy)
        if faults:
            raise ValueError(
                f"{part} does not fit in {checkpoint.file.path} ({checkpoint.layout.title}): "
                f"{'; '.join(faults)}."
            )
        state |= tensors
    return state


@dataclass(frozen=True)
class Weights:
    """Checked weights: an empty model of the wanted parts, and the tensors for it, by our keys."""

    model: VersatileDiffusion
    state: dict[str, Tensor]
    vocabularies: Vocabularies | None


def load(
    paths: Paths,
    *,
    parts: Iterable[str] | None = None,
    config: VDConfig | None = None,
    vocabularies: Vocabularies | str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> VersatileDiffusion:
    """Load a model, or the wanted parts of it, in eval mode.

    paths:  files or folders as for `read_weights`, or OWNER/NAME of a model in the local Hugging Face cache.
    dtype:  of all floating point weights, whatever the files hold. The noise schedule is never read from a
            file, so half-precision files do not spoil it.
    device: where the weights go.

    No weight requires gradients, so that encoding, sampling and decoding keep nothing for them; to train
    weights, call `requires_grad_()` on them or on their module. The other arguments, and what is raised, are
    those of `read_weights`.
    """
    device = resolve_device(device)
    check_dtype(dtype)
    weights = read_weights(paths, parts=parts, config=config, vocabularies=vocabularies, dtype=dtype)
    for prefix, module in collect_modules(weights.model).items():
        own = {key: weights.state[f"{prefix}.{key}"] for key in module.state_dict()}
        module.load_state_dict(own, strict=True, assign=True)
        module.requires_grad_(False)
    return weights.model.to(device)


def read_weights(
    paths: Paths,
    *,
    parts: Iterable[str] | None = None,
    config: VDConfig | None = None,
    vocabularies: Vocabularies | str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> Weights:
    """Read a model, or the wanted parts of it, without filling modules: a host may have its own.

    paths:  one file or folder, or several that make up one model; a part that several hold is taken from the
            first. Or OWNER/NAME of a model in the local Hugging Face cache.
    parts:  names as in `list_parts`; None means all that the files hold. Only the tensors of these parts are
            read. The time embedding comes with any part of the diffuser.
    config: sizes; None means those that a file carries, else Versatile Diffusion v1.0.
    vocabularies: those of the text autoencoder, or a folder that holds them; the files, their folder and the
            local Hugging Face cache are searched too.
    dtype:  of all floating point weights; None means as the files hold them.

    Raises ValueError and FileNotFoundError with one sentence for anything that does not fit.
    """
    if isinstance(parts, str) or not (parts is None or isinstance(parts, Iterable)):
        raise ValueError(f"parts must be a list of names, got {parts!r}.")
    parts = None if parts is None else list(parts)
    if isinstance(paths, str) and is_name(paths):
        paths = find_snapshot(paths, parts)
    checkpoints, config = open_checkpoints(paths, config)
    sources = choose(checkpoints, config, parts)
    if not isinstance(vocabularies, Vocabularies):
        vocabularies, folders = locate_vocabularies(checkpoints, config, vocabularies)
        if vocabularies is None and "text_vae" in sources:
            raise FileNotFoundError(explain_missing(folders))
    model = build_empty(checkpoints, config, sources, vocabularies)
    return Weights(model, read_parts(sources, model, dtype, copy=True), vocabularies)


def build_empty(
    checkpoints: Sequence[Checkpoint],
    config: VDConfig,
    parts: Collection[str],
    vocabularies: Vocabularies | None = None,
) -> VersatileDiffusion:
    """Return the parts without memory.

    Raises ValueError for sizes and vocabularies that each are possible, but not together.
    """
    try:
        return build(config, parts, vocabularies)
    except Exception as error:  # such sizes fail somewhere inside torch and transformers, in any way
        files = ", ".join(str(checkpoint.file.path) for checkpoint in checkpoints)
        raise ValueError(
            f"The model sizes and vocabularies for {files} do not fit together: {quote_error(error)}."
        ) from error


def locate_vocabularies(
    checkpoints: Sequence[Checkpoint], config: VDConfig, folder: str | Path | None
) -> tuple[Vocabularies | None, list[Path]]:
    """Find the vocabularies in the first of our files that has them, else in `folder` or beside the files;
    also returns these folders. Raises FileNotFoundError where there is no such `folder`."""
    if folder and not Path(folder).is_dir():
        raise FileNotFoundError(f"There is no folder {folder} with vocabularies: give the one that has them.")
    paths = [checkpoint.file.path for checkpoint in checkpoints]
    folders = [Path(folder)] if folder else []
    folders += [path if path.is_dir() else path.parent for path in paths]
    for checkpoint in checkpoints:
        try:
            stored = from_tensors(checkpoint.file.weights)
        except ValueError as error:
            raise ValueError(f"The vocabularies in {checkpoint.file.path} are damaged: {error}.") from error
        if stored:
            return stored, folders
    return find_vocabularies(folders, config.text_vae), folders


def choose(
    checkpoints: Sequence[Checkpoint], config: VDConfig, parts: Iterable[str] | None
) -> dict[str, Checkpoint]:
    """Choose the file that each wanted part comes from: the first one that holds it.

    None means all parts that are there.
    """
    held = {part: checkpoint for checkpoint in reversed(checkpoints) for part in checkpoint.keys}
    wanted = set(held if parts is None else parts)
    if strangers := wanted - set(list_parts(config)):
        raise ValueError(
            f"There is no part {sorted(strangers)[0]}; the parts are {', '.join(list_parts(config))}."
        )
    if any(part.startswith("diffuser.") for part in wanted):
        wanted.add("diffuser.time_embed")
    if absent := [part for part in list_parts(config) if part in wanted and part not in held]:
        files = ", ".join(str(checkpoint.file.path) for checkpoint in checkpoints)
        raise ValueError(
            f"{files} has no {', '.join(absent)}; published in "
            f"{' and '.join(map(str, list_published(absent)))}."
        )
    return {part: held[part] for part in list_parts(config) if part in wanted}
