"""Precision and device of what parts of a model are given: the first is converted, the second must fit."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MOVE = "move them together first, as with vd.to(device) and tensor.to(vd.device)"


def check_not_meta(tensor: Tensor, subject: str, remedy: str = "make them on another device") -> None:
    """Raise ValueError for a tensor on the meta device, which has no values.

    subject: what it is, in words, with its verb: "These pictures are".
    """
    if tensor.is_meta:
        raise ValueError(f"{subject} on the meta device, where tensors have no values: {remedy}.")


def check_device(weight: Tensor, part: str) -> None:
    """Raise ValueError for weights that have no values."""
    check_not_meta(weight, f"The {part} is", "load the model again")


def check_given(given: object, name: str, part: str) -> None:
    """Raise ValueError unless a part is given a tensor. name, part: what is given, and to which part."""
    if not isinstance(given, Tensor):
        raise ValueError(
            f"The {name} given to the {part} must be a torch tensor, got {type(given).__name__}."
        )


def check_place(weight: Tensor, given: Tensor, name: str, part: str) -> None:
    """Raise ValueError for what a part is given on another device than its weights, or without values.

    weight:     one of the part's weights.
    name, part: what is given, and to which part, in words.
    """
    check_device(weight, part)
    check_not_meta(given, f"The {name} given to the {part} are")
    if weight.device != given.device:
        raise ValueError(f"The {name} are on {given.device} and the {part} is on {weight.device}: {MOVE}.")


def convert_for(weight: Tensor, given: Tensor, name: str, part: str) -> Tensor:
    """Convert what a part is given to the precision of its weights. Raises ValueError as `check_place`."""
    check_place(weight, given, name, part)
    return given.to(weight.dtype)


def choose_device(name: str | None = None) -> str:
    """Choose the device of that name, else a GPU where torch finds one, else the CPU.

    Raises ValueError for a device that cannot be used here, and for "meta", where nothing is computed.
    """
    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if resolve_device(name).type == "meta":
        raise ValueError("Nothing is computed on the device 'meta': choose cpu, or one that torch finds.")
    return name


def warn_if_slow(weight: Tensor) -> None:
    """Say once that half precision is slow where this weight is computed with."""
    if weight.dtype == torch.float16 and weight.device.type == "cpu":
        warn_of_half()


@cache
def warn_of_half() -> None:
    """Say that float16 is slow on a CPU."""
    log.warning("float16 is many times slower on a CPU than float32: choose float32, or bfloat16.")


def resolve_device(device: torch.device | str) -> torch.device:
    """Return a device as torch names it. Raises ValueError for a name that torch cannot use here."""
    try:
        chosen = torch.device(device)
        if chosen.type != "meta":
            torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"The device {device!r} cannot be used here: choose cpu, or one that torch finds."
        ) from error
    return chosen


def check_dtype(dtype: torch.dtype) -> None:
    """Refuse what is no precision of weights. Raises ValueError."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point or dtype.itemsize < 2:
        raise ValueError(f"Weights are of torch.float32, bfloat16, float16 or float64, got {dtype!r}.")
