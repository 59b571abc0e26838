"""Bad model files of every kind, and what each loader says to them."""

from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from seecoder.checkpoints import collect_released_state, from_tensors
from seecoder.config import SeeCoderConfig
from seecoder.model import SeeCoder
from vd_core.checkpoints.contexts import load_context, save_context
from vd_core.checkpoints.load import load as load_model
from vd_core.checkpoints.parts import build, collect_state, list_parts
from vd_core.checkpoints.read import read
from vd_core.checkpoints.write import make_metadata
from vd_core.config import VDConfig
from vd_core.context import Context

from .bad_pickles import make_attacks
from .forked import Result, Table, judge_error, run_forked

State = dict[str, Tensor]


@dataclass(frozen=True)
class Good:
    """A good file: the bytes of it in each format, what loads it, and the tensors that loading gives."""

    name: str
    load: Callable[[Path], State]
    state: State
    header: dict[str, str]
    formats: dict[str, bytes]


def load_parts(path: Path) -> State:
    """Load the tensors of a model without text autoencoder, which would look for vocabularies."""
    return collect_state(load_model(path))


def load_seecoder(path: Path) -> State:
    """Load the tensors of a SeeCoder, read as the nodes read it."""
    return collect_released_state(from_tensors(read(path).weights, str(path)))


def load_tokens(path: Path) -> State:
    """Load the tensors of a context."""
    context = load_context(path, kind=None if path.suffix == ".safetensors" else "text")
    return {"tokens": context.tokens, "null": context.unconditional}


def make_goods(folder: Path) -> list[Good]:
    """Make a small model, a small SeeCoder and a context, each in every format that is read."""
    torch.manual_seed(0)
    tiny = VDConfig.tiny()
    config = replace(tiny, clip=replace(tiny.clip, text=replace(tiny.clip.text, vocab_size=64)))
    model = build(config, [part for part in list_parts(config) if part not in ("text_vae", "clip_text")])
    state = {key: torch.randn(tensor.shape) for key, tensor in collect_state(model).items()}
    seecoder = SeeCoder(SeeCoderConfig.tiny(False)).requires_grad_(False)
    tokens = torch.nn.functional.normalize(torch.randn(2, 7, 40), dim=-1)
    context = Context("text", tokens[:1], tokens[1:])
    save_context(folder / "context.safetensors", context)
    held = load_file(folder / "context.safetensors")
    found = [
        Good("model", load_parts, state, make_metadata(config), {}),
        Good("seecoder", load_seecoder, collect_released_state(seecoder), {}, {}),
        Good("context", load_tokens, held, {"format": "pt", "vd_kind": "text"}, {}),
    ]
    for good in found:
        good.formats["safetensors"] = save(good.state, good.header or None)
        if good.name == "model":  # the sizes travel in the header of a safetensors file alone
            continue
        for name, new in (("zip", True), ("legacy", False)):
            torch.save(good.state, folder / "saved", _use_new_zipfile_serialization=new)
            good.formats[name] = (folder / "saved").read_bytes()
    np.save(folder / "context.npy", context.tokens[0].numpy())
    found[2].formats["npy"] = (folder / "context.npy").read_bytes()
    return found


@dataclass(frozen=True)
class Case:
    """One bad file. make: writes it at the path. may_load: it may also be read, if nothing in it has
    changed."""

    kind: str
    name: str
    good: Good
    make: Callable[[Path], object]
    may_load: bool = False
    ending: str = ".safetensors"


def write(data: bytes) -> Callable[[Path], object]:
    """Write these bytes."""
    return lambda path: path.write_bytes(data)


def find_ending(name: str) -> str:
    """Find the usual ending of a format."""
    return {"safetensors": ".safetensors", "npy": ".npy"}.get(name, ".pth")


def truncate(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Cut at every kind of boundary, and anywhere."""
    for good in found:
        for name, data in good.formats.items():
            edges = {
                1,
                2,
                4,
                7,
                8,
                9,
                10,
                11,
                64,
                128,
                512,
                len(data) // 2,
                len(data) - 1,
                len(data) - 2,
                len(data) - 22,
                len(data) - 100,
            }
            if name == "safetensors":
                start = 8 + int.from_bytes(data[:8], "little")
                edges |= {start - 1, start, start + 1, start + 64, 8 + (start - 8) // 2}
            edges |= {rng.randrange(1, len(data)) for _ in range(8)}
            for cut in sorted(edge for edge in edges if 0 < edge < len(data)):
                yield Case(
                    "truncated",
                    f"{good.name}.{name} cut at {cut}",
                    good,
                    write(data[:cut]),
                    False,
                    find_ending(name),
                )


def flip_bits(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Flip one to three bits in the parts of a file that say what is where."""
    for good in found:
        for name, data in good.formats.items():
            if name == "safetensors":
                areas = [(0, 8), (8, 8 + int.from_bytes(data[:8], "little"))]
            elif name == "zip":
                header = data.index(b"PK\x03\x04", len(data) // 2)  # of a tensor
                areas = [(0, 64), (64, data.index(b"PK\x03\x04", 4)), (header, header + 30)]
                areas += [(len(data) - 400, len(data))]
            else:
                areas = [
                    (
                        0,
                        min(
                            len(data), 128 if name == "npy" else data.index(b"u.") if b"u." in data else 2000
                        ),
                    )
                ]
            for start, end in areas:
                for number in range(12):
                    changed = bytearray(data)
                    for _ in range(1 + number % 3):
                        changed[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
                    title = f"{good.name}.{name} {start}-{end} #{number}"
                    yield Case("bits flipped", title, good, write(bytes(changed)), True, find_ending(name))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda tensor: tensor.index_fill(-1, torch.tensor([0]), float("nan")),
    "infinite": lambda tensor: tensor.index_fill(-1, torch.tensor([tensor.shape[-1] - 1]), float("inf")),
    "minus infinite": lambda tensor: tensor.index_fill(-1, torch.tensor([0]), float("-inf")),
    "integers": lambda tensor: tensor.long(),
    "truth values": lambda tensor: tensor > 0,
    "bytes": lambda tensor: tensor.to(torch.uint8),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "one more row": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "transposed": lambda tensor: torch.cat([tensor, tensor], dim=-1),
    "another dimension": lambda tensor: tensor[None, None],
    "flat": lambda tensor: torch.cat([tensor.flatten(), torch.zeros(1)]),
    "a number": lambda tensor: torch.zeros(()),
    "empty": lambda tensor: tensor[:0],
}


def change_tensors(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Make a tensor of the wrong type, shape or value, a missing key, an extra key, all keys under another
    prefix."""
    for good in found:
        for change, edit in CHANGES.items():
            for key in rng.sample(sorted(good.state), min(len(good.state), 3)):
                if (
                    good.name == "context"
                    and change in ("one more row", "another dimension", "transposed", "flat")
                    or "in_proj" in key
                ):
                    # Contexts have no shape that they must have; queries and keys of SeeCoder's decoder are
                    # not read.
                    continue
                state = {**good.state, key: edit(good.state[key]).contiguous()}
                for form in ("safetensors", "zip") if len(good.formats) > 1 else ("safetensors",):
                    yield make_case(good, f"{change} in {key}", state, form)
        for key in rng.sample(sorted(good.state), min(len(good.state), 8)):
            if good.name != "context":
                yield make_case(
                    good,
                    f"without {key}",
                    {name: tensor for name, tensor in good.state.items() if name != key},
                )
                yield make_case(
                    good,
                    f"{key} called otherwise",
                    {name + "x" * (name == key): t for name, t in good.state.items()},
                )
        if good.name != "context":
            yield make_case(good, "a key more", {**good.state, "lonely.key": torch.zeros(3)})
            yield make_case(
                good, "another prefix", {f"model.{key}": tensor for key, tensor in good.state.items()}
            )
            yield make_case(
                good, "half of all keys", {key: good.state[key] for key in sorted(good.state)[::2]}
            )
            yield make_case(good, "a name with a line feed", {**good.state, "a\nb.\0.c": torch.zeros(3)})
        for other in found:
            if other is not good:
                yield Case(
                    "of another kind",
                    f"{other.name} as {good.name}",
                    good,
                    write(other.formats["safetensors"]),
                )


def make_case(good: Good, name: str, state: State, form: str = "safetensors") -> Case:
    """Make a file of these tensors."""
    if form == "zip":
        return Case(
            "changed tensors",
            f"{good.name}.zip {name}",
            good,
            lambda path: torch.save(state, path),
            False,
            ".pth",
        )
    return Case(
        "changed tensors",
        f"{good.name} {name}",
        good,
        lambda path: save_file(state, path, good.header or None),
    )


def save_as(state: State, header: dict[str, str], path: Path) -> None:
    """Write a safetensors file."""
    save_file(state, path, header)


def write_claim(tensors: dict, size: int = 0, metadata: dict | None = None) -> bytes:
    """Write a safetensors file with this header and as many zero bytes."""
    text = json.dumps({"__metadata__": metadata or {"format": "pt"}, **tensors}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def write_npy(header: bytes) -> Callable[[Path], object]:
    """Write a .npy file of this header."""
    return write(b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n\x80\x02.")


def write_bomb(path: Path, method: int = zipfile.ZIP_DEFLATED, name: str = "archive/data.pkl") -> None:
    """Write a small zip file with 300 MB in it."""
    with zipfile.ZipFile(path, "w", method) as archive, archive.open(name, "w", force_zip64=True) as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))


def write_sparse(path: Path, head: bytes) -> None:
    """Write a file of 100 GB that takes no room."""
    path.write_bytes(head)
    os.truncate(path, 100 << 30)


def link_in_a_loop(path: Path) -> None:
    """Make two links that point at each other."""
    other = path.with_name("other")
    other.symlink_to(path)
    path.symlink_to(other)


HUGE = 100 << 30
SPECIAL: dict[str, Callable[[Path], object]] = {
    "no file": lambda path: None,
    "empty": write(b""),
    "one byte": write(b"\x80"),
    "directory": lambda path: path.mkdir(),
    "directory of directories": lambda path: (path / "vae" / "diffusion_pytorch_model.safetensors").mkdir(
        parents=True
    ),
    "link loop": link_in_a_loop,
    "link to itself": lambda path: path.symlink_to(path),
    "dangling link": lambda path: path.symlink_to(path.with_name("nothing")),
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "no device": lambda path: path.symlink_to("/dev/null"),
    "folder with a link loop": lambda path: (path.mkdir(), link_in_a_loop(path / "model.safetensors")),
    "header of 100 GB": write(HUGE.to_bytes(8, "little") + b"{}"),
    "header of 2^64 - 1": write(b"\xff" * 8 + b"{}"),
    "header of 0": write(bytes(8) + b"{"),
    "tensor of 100 GB": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}}, 64)
    ),
    "shape that overflows": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}}, 64)
    ),
    "negative shape": write(
        write_claim({"clip_text.a": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}, 64)
    ),
    "unknown type": write(
        write_claim({"clip_text.a": {"dtype": "F3", "shape": [16], "data_offsets": [0, 64]}}, 64)
    ),
    "overlap": write(
        write_claim(
            {f"clip_text.{k}": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for k in "ab"}, 64
        )
    ),
    "hole": write(write_claim({"clip_text.a": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]}}, 64)),
    "no tensors": write(write_claim({})),
    "header that is a list": write((4).to_bytes(8, "little") + b"[{}]"),
    "header of 10000 brackets": write((20000).to_bytes(8, "little") + b"{" + b"[" * 19999),
    "nested header": write((60006).to_bytes(8, "little") + b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}"),
    "million keys": write(
        write_claim({f"k{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)})
    ),
    "100 GB of zeros": lambda path: write_sparse(path, b""),
    "100 GB behind a header": lambda path: write_sparse(path, write_claim({}, 0)),
    "100 GB behind a pickle": lambda path: write_sparse(path, b"\x80\x02}X\x01\x00\x00\x00a"),
    "100 GB behind a zip": lambda path: write_sparse(path, b"PK\x03\x04" + bytes(100)),
    "zip bomb": write_bomb,
    "zip bomb beside the pickle": lambda path: write_bomb(path, name="archive/data/0"),
    "zip bomb, lzma": lambda path: write_bomb(path, zipfile.ZIP_LZMA),
    "zip without entries": write(b"PK\x05\x06" + bytes(18)),
    "web page": write(b"<!DOCTYPE html><title>Sign in</title>"),
    "text": write(b"A model, really.\n" * 99),
    "picture": write(b"\x89PNG\r\n\x1a\n" + bytes(99)),
    "gguf": write(b"GGUF\x03\x00\x00\x00" + bytes(99)),
    "hdf5": write(b"\x89HDF\r\n\x1a\n" + bytes(99)),
    "npy of objects": write_npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
    "npy of 100 GB": write_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (26843545600,), }"),
    "npy with code": write_npy(b"{'descr': __import__('os').system('true'), 'shape': (1,), }"),
}

SIZES = (10**12, 10**6 + 1, -1, 0, 1.5, "8", None, [], {}, True, float("nan"))


def make_special(found: list[Good], rng: random.Random) -> Iterator[Case]:
    """Make what is no file of tensors at all, headers that claim too much, and sizes of models that cannot
    be."""
    for name, make in SPECIAL.items():
        for good in rng.sample(found, 2):
            yield Case(
                "no such file",
                f"{name} as {good.name}",
                good,
                make,
                False,
                ".npy" if name.startswith("npy") else ".safetensors",
            )
    model = found[0]
    for field, value in list(list_leaves(json.loads(model.header["vd_config"]))):
        for size in rng.sample(SIZES, 2):
            if size != value and not (isinstance(value, float) and isinstance(size, float) and size == size):
                config = put(json.loads(model.header["vd_config"]), field, size)
                header = {**model.header, "vd_config": json.dumps(config)}
                yield Case(
                    "sizes that cannot be",
                    f"{'.'.join(map(str, field))} = {size!r}",
                    model,
                    partial(save_as, model.state, header),
                    True,
                )
    for text in ("", "null", "[]", "{}", "{", "1e999", '{"diffuser": 3}', "[" * 100_000):
        yield Case("sizes that cannot be", text[:20], model, write(write_claim({}, 0, {"vd_config": text})))


def list_leaves(values: object, path: tuple = ()) -> Iterator[tuple[tuple, object]]:
    """List every value of nested dictionaries and lists, with where it is."""
    rows = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    yield from ((path, values),) if not rows and path else ()
    for key, value in rows:
        yield from list_leaves(value, (*path, key))


def put(values: dict, path: tuple, value: object) -> dict:
    """Return the same nested values with another one at a place."""
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return values


def make_hostile(found: list[Good], canary: Path) -> Iterator[Case]:
    """Make pickles with code."""
    for number, (name, data) in enumerate(make_attacks(canary)):
        yield Case("pickles with code", name, found[number % len(found)], write(data), False, ".pth")


def try_case(case: Case, path: Path, canary: Path) -> Result:
    """Load one bad file -> how that ended; the loader tried again on a good one afterwards."""
    good = path.with_name("good.safetensors")
    good.write_bytes(case.good.formats["safetensors"])
    known = {} if path.suffix == ".npy" else case.good.state
    try:
        loaded = case.good.load(path)
        unchanged = all(torch.equal(loaded[key], tensor) for key, tensor in known.items())
        result = Result("survived" if case.may_load and unchanged else "wrong", "it was loaded")
    except Exception as error:
        result = judge_error(error, path.name)
    if canary.exists():
        return Result("executed", result.said)
    again = case.good.load(good)
    return (
        result
        if all(torch.equal(again[key], tensor) for key, tensor in case.good.state.items())
        else Result("lost", "loader spoilt")
    )


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """All cases, or about a share of them."""
    rng, canary, found = random.Random(seed), folder / "canary", make_goods(folder)
    cases = [
        case for kind in (truncate, flip_bits, change_tensors, make_special) for case in kind(found, rng)
    ]
    cases += make_hostile(found, canary)
    seen: set[str] = set()
    for number, case in enumerate(cases):
        if case.kind in seen and rng.random() >= share:
            continue
        seen.add(case.kind)
        place = folder / str(number)
        place.mkdir()
        path = place / f"file{case.ending}"
        case.make(path)
        table.add(case.kind, case.name, run_forked(partial(try_case, case, path, canary)))
        canary.unlink(missing_ok=True)
        shutil.rmtree(place)
