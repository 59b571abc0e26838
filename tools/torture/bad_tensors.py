"""Whole files with wrong tensors: types, shapes, values, keys, prefixes, and files of another kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from .good_files import Case, Good, State, write

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
                forms = ["safetensors", "zip"] if len(good.formats) > 1 else ["safetensors"]
                if change == "complex" and not can_write_complex():
                    forms.remove("safetensors")
                for form in forms:
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


def can_write_complex() -> bool:
    """Tell whether this safetensors writes complex numbers: the oldest allowed one does not."""
    try:
        save({"number": torch.zeros(1, dtype=torch.complex64)})
    except KeyError:
        return False
    return True


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
