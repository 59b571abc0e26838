"""Precision and device of what parts of a model are given: the first is converted, the second must fit."""

from __future__ import annotations

import torch
from torch import Tensor

MOVE = "move them together first, as with vd.to(device) and tensor.to(vd.device)"


def check_device(weight: Tensor, part: str) -> None:
    """Refuse to compute with weights that have no values. Raises ValueError for those on the meta device."""
    if weight.is_meta:
        raise ValueError(
            f"The {part} is on the meta device, where weights have no values: load the model again."
        )


def check_place(weight: Tensor, given: Tensor, name: str, part: str) -> None:
    """Refuse what a part is given on another device than its weights, or on "meta", where tensors have no
    values.

    weight: one of the part's weights. name, part: what is given and to which part, in words, for the
            sentence.
    """
    check_device(weight, part)
    if given.is_meta:
        raise ValueError(
            f"The {name} given to the {part} are on the meta device and have no values: make them anew."
        )
    if weight.device != given.device:
        raise ValueError(f"The {name} are on {given.device} and the {part} is on {weight.device}: {MOVE}.")


def convert_for(weight: Tensor, given: Tensor, name: str, part: str) -> Tensor:
    """Convert what a part is given to the precision of its weights. Raises ValueError as `check_place`."""
    check_place(weight, given, name, part)
    return given.to(weight.dtype)


def best_device() -> str:
    """Choose a GPU where torch finds one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: torch.device | str) -> torch.device:
    """Return a device as torch names it. Raises ValueError for a name that it does not know or cannot use
    here.
    """
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
