"""Files of SeeCoder, SeeCoder-PA and SeeCoder-Anime, which differ in keys only: safetensors, or torch.save (.pth, .ckpt)."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .config import SeeCoderConfig
from .model import SeeCoder
from .sizes import seecoder_config

PREFIX = "ctx.image."  # where the whole Prompt-Free Diffusion model has its encoder
LONGEST = 8 << 20  # bytes of a pickle; tensors' numbers lie outside of it
NAMES = ("GLOBAL", "BINUNICODE", "SHORT_BINSTRING")
SHARED = 20  # how often a pickle may refer back to anything but names
DERIVED = r"imencoder\..*\.relative_position_index$"  # buffers that follow from the window

# Where our name of a weight differs from the released one; every weight of ours lies in a leaf module.
RENAMES = (
    (r"^imencoder\.layers\.(\d+)\.norm\.", r"imencoder.norm\1."),
    (r"\.relative_position_bias\.weight$", r".relative_position_bias_table"),
    (r"^imdecoder\.level_embed\.weight$", r"imdecoder.level_embed"),
    (r"^(imdecoder\.(?:lateral|output)_layers\.\w+)\.conv\.", r"\1."),
    (r"\.[qkv]_proj\.(\w+)$", r".in_proj_\1"),
)


def released_name(key: str) -> str:
    """The name in released files (without `PREFIX`) of one of our weights; queries, keys and values share one."""
    for pattern, name in RENAMES:
        key = re.sub(pattern, name, key)
    return key


def third(key: str) -> int | None:
    """Which third of a joint tensor one of our weights is; None if it is a tensor of its own."""
    match = re.search(r"\.([qkv])_proj\.", key)
    return "qkv".index(match[1]) if match else None


def load(path: str | Path, *, config: SeeCoderConfig | None = None, ops=nn, dtype: torch.dtype | None = torch.float32) -> SeeCoder:
    """Load a SeeCoder of any kind and size, in eval mode, on the CPU. Nothing in the file is run.

    The arguments are those of `from_tensors`. Raises FileNotFoundError for a missing file, ValueError with one sentence for one that
    cannot be read or does not fit.
    """
    return from_tensors(read(path), str(path), config=config, ops=ops, dtype=dtype)


def read(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors or torch.save file, whatever its name says."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        head = file.read(9)
    if head[6:] == b"\0\0{":  # the length of a JSON header in eight bytes, then the header
        try:
            return load_file(path)
        except (SafetensorError, MemoryError, OSError) as error:
            raise ValueError(f"{path} is truncated or corrupt; download it again.") from error
    try:
        for data in pickles(path):
            check_pickle(data)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets foreign bytes here and can fail in any way
        raise ValueError(
            f"{path} is neither a safetensors file nor one of torch.save with nothing but tensors in it; nothing in it was run."
        ) from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        raise ValueError(f"{path} holds no dictionary of tensors.")
    return content


def pickles(path: Path) -> list[bytes]:
    """The pickles of a file of torch.save, which before torch 1.6 were five in a row before the tensors' numbers.

    Raises ValueError for a zip file that unpacks to more than its size (torch.save never compresses) or has a damaged pickle.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return [file.read(LONGEST)]
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size or any(entry.file_size > LONGEST for entry in entries):
            raise ValueError("a zip bomb")
        return [archive.read(entry) for entry in entries]  # which compares their checksums


def check_pickle(data: bytes) -> None:
    """Raise ValueError where pickles in a row refer back to anything that can hold something else: nested pairs of one another keep
    torch's unpickler busy without end. What is no pickle is left to torch, which stops there."""
    stream, shared = io.BytesIO(data), 0
    for _ in range(5):
        plain, last = set(), ""
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("BINPUT", "LONG_BINPUT"):
                    (plain.add if last in NAMES else plain.discard)(argument)
                shared += opcode.name in ("BINGET", "LONG_BINGET") and argument not in plain
                last = opcode.name
        except ValueError:
            break
    if shared > SHARED or stream.tell() == LONGEST:
        raise ValueError("a pickle without end")


def from_tensors(
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    config: SeeCoderConfig | None = None,
    ops=nn,
    dtype: torch.dtype | None = torch.float32,
) -> SeeCoder:
    """A SeeCoder from tensors under released names, with or without `ctx.image.`.

    source: where they are from, for the sentences of errors.
    config: sizes; None = found from names and shapes, with the 8 heads and the 4 global queries of all released models, which no
            shape tells. Position-aware if there is a `pe_layer`.
    ops:    see `SeeCoder`. dtype: of all weights, None = as they are.

    Raises ValueError with one sentence for anything missing, unexpected or misshapen.
    """
    tensors = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    try:
        config = config or seecoder_config({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{source} is no SeeCoder: {reason}; its first keys are {', '.join(list(tensors)[:4])}.") from error
    with torch.device("meta"):
        model = SeeCoder(config)
        hosted = model if ops is nn else SeeCoder(config, ops)
    fill(model, tensors, source, dtype)
    if hosted is not model:  # a host's layers may have no weights, and so no shapes to check, before they are given some
        hosted.load_state_dict(model.state_dict(), strict=True, assign=True)
    return hosted


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, dtype: torch.dtype | None = torch.float32, prefix: str = ""
) -> None:
    """Give a SeeCoder, or the part of it at `prefix`, its weights from tensors under released names.

    Raises ValueError with one sentence for anything missing, unexpected or misshapen.
    """
    wanted = {key: released_name(prefix + key) for key in module.state_dict()}
    missing = set(wanted.values()) - tensors.keys()
    unexpected = {key for key in tensors.keys() - wanted.values() if not re.match(DERIVED, key)}
    state, misshapen, worthless = {}, set(), set()
    for key, empty in module.state_dict().items():
        if (name := wanted[key]) not in missing:
            part, whole = third(key), list(empty.shape)
            if part is not None:
                whole[0] *= 3
            if list(tensors[name].shape) != whole:
                misshapen.add(f"{name} is {list(tensors[name].shape)} where {whole} is needed")
            elif not finite(tensors[name]):
                worthless.add(name)
            else:
                state[key] = (tensors[name] if part is None else tensors[name].chunk(3)[part]).to(dtype or tensors[name].dtype)
    groups = (
        (missing, "missing key"),
        (unexpected, "unexpected key"),
        (misshapen, "misshapen key"),
        (worthless, "key without finite numbers"),
    )
    if faults := "; ".join(listed(keys, noun) for keys, noun in groups if keys):
        raise ValueError(f"{source} does not fit a SeeCoder: {faults}.")
    module.load_state_dict(state, strict=True, assign=True)


def finite(tensor: Tensor) -> bool:
    """Whether a weight has a fraction and all its values are numbers: neither bound of what holds a NaN is finite."""
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return tensor.is_meta or tensor.is_floating_point()
    # 8-bit floats have no order of their own.
    return bool(torch.stack((tensor.half() if tensor.itemsize == 1 else tensor).aminmax()).isfinite().all())


def listed(keys: Collection[str], noun: str) -> str:
    """A count and the first four names, as part of a sentence. noun: "key …", made plural where there are several."""
    more = ", …" if len(keys) > 4 else ""
    nouns = noun.replace("key", "keys") if len(keys) > 1 else noun
    names = ("".join(letter if letter.isprintable() else "?" for letter in key[:200]) for key in sorted(keys)[:4])
    return f"{len(keys)} {nouns}: {', '.join(names)}{more}"


def released_state(model: SeeCoder) -> dict[str, Tensor]:
    """A model's weights as released files hold them, to be saved; other implementations read them too.

    The decoder's queries and keys, which have no effect, are zeros. The buffers that follow from the window are left out.
    """
    tensors, thirds = {}, {}
    for key, tensor in model.state_dict().items():
        name, part = PREFIX + released_name(key), third(key)
        if part is None:
            tensors[name] = tensor
        else:
            thirds.setdefault(name, {})[part] = tensor
    for name, parts in thirds.items():
        tensors[name] = torch.cat([parts.get(index, torch.zeros_like(parts[2])) for index in range(3)])
    return tensors
