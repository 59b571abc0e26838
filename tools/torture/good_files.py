"""Good files, and how a bad one that is made of them is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
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

from .forked import Result, judge_error

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
