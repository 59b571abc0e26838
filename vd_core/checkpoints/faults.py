"""Check the names, shapes, types and values of a file's tensors, and say in words what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from ..foreign import printable


def list_keys(keys: Collection[str], noun: str) -> str:
    """Return a count and the first four names, as part of a sentence.

    noun: "key …", made plural where there are several.
    """
    more = ", …" if len(keys) > 4 else ""
    nouns = noun.replace("key", "keys").replace("changes", "change") if len(keys) > 1 else noun
    return f"{len(keys)} {nouns}: {', '.join(printable(key) for key in sorted(keys)[:4])}{more}"


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all values are finite, in one pass and without a copy: NaN shows in the bounds too.

    Integers count as finite, and tensors without values, empty or on the meta device.
    """
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return True
    # 8-bit floats have no order of their own.
    return bool(torch.stack((tensor.half() if tensor.itemsize == 1 else tensor).aminmax()).isfinite().all())


class Faults:
    """Collects what is wrong with tensors, by kind."""

    def __init__(self, missing: Iterable[str] = (), unexpected: Iterable[str] = ()):
        self.missing, self.unexpected = list(missing), list(unexpected)
        self.misshapen: list[str] = []
        self.mistyped: list[str] = []
        self.infinite: list[str] = []
        self.too_large: list[str] = []

    def take(
        self,
        name: str,
        tensor: Tensor,
        shape: Sequence[int],
        *,
        floating: bool = True,
        dtype: torch.dtype | None = None,
        copy: bool = False,
    ) -> Tensor | None:
        """Return the tensor as it will be used, or None after noting why not.

        Values are read only after shape and type are right.

        name: as the file has it. shape: that is needed; with `floating`, so is a floating point type. dtype:
        to cast to, None = as it is. copy: in memory of its own, which a later change of the file does not
        reach.
        """
        if list(tensor.shape) != list(shape):
            self.misshapen.append(f"{name} is {list(tensor.shape)} where {list(shape)} is needed")
            return None
        if tensor.is_floating_point() != floating:
            self.mistyped.append(f"{name} is {tensor.dtype}")
            return None
        cast = tensor.to(dtype if dtype and floating else tensor.dtype, copy=copy)
        if not is_finite(cast):
            (self.too_large if is_finite(tensor) else self.infinite).append(name)
            return None
        return cast

    def describe(self) -> list[str]:
        """Describe each kind of fault, as a part of a sentence; empty if all is well."""
        groups = (
            (self.missing, "missing key"),
            (self.unexpected, "unexpected key"),
            (self.misshapen, "misshapen key"),
            (self.mistyped, "key of the wrong type"),
            (self.infinite, "key with values that are not finite"),
            (self.too_large, "key with values too large for the type that is asked for"),
        )
        return [list_keys(keys, noun) for keys, noun in groups if keys]
