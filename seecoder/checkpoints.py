"""Files of SeeCoder, SeeCoder-PA and SeeCoder-Anime, which differ in keys only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .config import SeeCoderConfig
from .model import SeeCoder
from .sizes import read_seecoder_config

PREFIX = "ctx.image."  # where the whole Prompt-Free Diffusion model has its encoder
DERIVED = r"imencoder\..*\.relative_position_index$"  # buffers that follow from the window

# Where our name of a weight differs from the released one; every weight of ours lies in a leaf module.
RENAMES = (
    (r"^imencoder\.layers\.(\d+)\.norm\.", r"imencoder.norm\1."),
    (r"\.relative_position_bias\.weight$", r".relative_position_bias_table"),
    (r"^imdecoder\.level_embed\.weight$", r"imdecoder.level_embed"),
    (r"^(imdecoder\.(?:lateral|output)_layers\.\w+)\.conv\.", r"\1."),
    (r"\.[qkv]_proj\.(\w+)$", r".in_proj_\1"),
)


def name_as_released(key: str) -> str:
    """Name one of our weights as released files do, without `PREFIX`; q, k and v of a layer share a name."""
    for pattern, name in RENAMES:
        key = re.sub(pattern, name, key)
    return key


def find_qkv_index(key: str) -> int | None:
    """Tell which third of a joint tensor of queries, keys and values a weight is; None for other weights."""
    match = re.search(r"\.([qkv])_proj\.", key)
    return "qkv".index(match[1]) if match else None


def load(
    path: str | Path,
    *,
    config: SeeCoderConfig | None = None,
    ops=nn,
    dtype: torch.dtype | None = torch.float32,
) -> SeeCoder:
    """Load a SeeCoder of any kind and size from a safetensors file, in eval mode, on the CPU.

    Files of `torch.save` are pickles: `vd_core.checkpoints.read.read` opens them without running anything,
    and `from_tensors` takes its `weights`.

    The arguments are those of `from_tensors`. Raises FileNotFoundError for a missing file, ValueError with
    one sentence for one that cannot be read or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        tensors = load_file(path)
    except (SafetensorError, MemoryError, OSError) as error:
        raise ValueError(
            f"{path} is no safetensors file, or a truncated or corrupt one; download it again."
        ) from error
    return from_tensors(tensors, str(path), config=config, ops=ops, dtype=dtype)


def from_tensors(
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    config: SeeCoderConfig | None = None,
    ops=nn,
    dtype: torch.dtype | None = torch.float32,
) -> SeeCoder:
    """Return a SeeCoder from tensors under released names, with or without `ctx.image.`.

    source: where they are from, for the sentences of errors.
    config: sizes; None = found from names and shapes, with the 8 heads and the 4 global queries of all
            released models, which no shape tells. Position-aware if there is a `pe_layer`.
    ops:    see `SeeCoder`. dtype: of all weights, None = as they are.

    Raises ValueError with one sentence for anything missing, unexpected or misshapen.
    """
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    try:
        config = config or read_seecoder_config({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{source} is no SeeCoder: {reason}; its first keys are {', '.join(list(tensors)[:4])}."
        ) from error
    with torch.device("meta"):
        model = SeeCoder(config)
        hosted = model if ops is nn else SeeCoder(config, ops)
    fill(model, tensors, source, dtype)
    # a host's layers may have no weights, and so no shapes to check, before they are given some
    if hosted is not model:
        hosted.load_state_dict(model.state_dict(), strict=True, assign=True)
    return hosted


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype | None = torch.float32,
    prefix: str = "",
) -> None:
    """Give a SeeCoder, or the part of it at `prefix`, its weights from tensors under released names.

    Raises ValueError with one sentence for anything missing, unexpected or misshapen.
    """
    wanted = {key: name_as_released(prefix + key) for key in module.state_dict()}
    missing = set(wanted.values()) - tensors.keys()
    unexpected = {key for key in tensors.keys() - wanted.values() if not re.match(DERIVED, key)}
    misshapen, not_finite = set(), set()
    state = {}
    for key, empty in module.state_dict().items():
        if (name := wanted[key]) in missing:
            continue
        index, shape, tensor = find_qkv_index(key), list(empty.shape), tensors[name]
        if index is not None:
            shape[0] *= 3
        if list(tensor.shape) != shape:
            misshapen.add(f"{name} is {list(tensor.shape)} where {shape} is needed")
        elif not tensor.is_floating_point() or not (
            tensor.is_meta or tensor.to(dtype or torch.float32).isfinite().all()
        ):
            not_finite.add(name)
        else:
            own = tensor if index is None else tensor.chunk(3)[index]
            # Copied, so that it does not change with its file.
            state[key] = own.to(dtype or own.dtype, copy=True)
    faults = [
        count_keys(missing, "missing key", "missing keys"),
        count_keys(unexpected, "unexpected key", "unexpected keys"),
        count_keys(misshapen, "misshapen key", "misshapen keys"),
        count_keys(not_finite, "key without finite numbers", "keys without finite numbers"),
    ]
    if any(faults):
        raise ValueError(f"{source} does not fit a SeeCoder: {'; '.join(filter(None, faults))}.")
    module.load_state_dict(state, strict=True, assign=True)


def count_keys(keys: Collection[str], singular: str, plural: str) -> str:
    """Count keys in words, with the first four of them; "" for none."""
    if not keys:
        return ""
    # No control characters on a terminal.
    names = (
        "".join(letter if letter.isprintable() else "?" for letter in key[:200]) for key in sorted(keys)[:4]
    )
    noun = singular if len(keys) == 1 else plural
    return f"{len(keys)} {noun}: {', '.join(names)}{', …' if len(keys) > 4 else ''}"


def collect_released_state(model: SeeCoder) -> dict[str, Tensor]:
    """Return a model's weights as released files hold them, to be saved; other implementations read them too.

    The decoder's queries and keys, which have no effect, are zeros. The buffers that follow from the window
    are left out.
    """
    tensors: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    for key, tensor in model.state_dict().items():
        name, index = PREFIX + name_as_released(key), find_qkv_index(key)
        if index is None:
            tensors[name] = tensor
        else:
            thirds.setdefault(name, {})[index] = tensor
    for name, parts in thirds.items():
        tensors[name] = torch.cat([parts.get(index, torch.zeros_like(parts[2])) for index in range(3)])
    return tensors
