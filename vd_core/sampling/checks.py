"""Checks of what users choose: each ends in one sentence that names the field."""

from __future__ import annotations

from collections.abc import Collection
from math import inf, isfinite
from numbers import Integral, Real

from torch import Tensor

from ..placement import check_not_meta


def check_choice(field: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless a value is one of some names."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, got {value!r}.")


def check_number(field: str, value: object, low: float = -inf, high: float = inf) -> None:
    """Raise ValueError unless a value is a finite number from `low` to `high`, both included."""
    if (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and isfinite(value)
        and low <= float(value) <= high
    ):
        return
    limits = "" if low == -inf else f" of at least {low:g}" if high == inf else f" from {low:g} to {high:g}"
    raise ValueError(f"{field} must be a finite number{limits}, got {value!r}.")


def check_count(field: str, value: object) -> None:
    """Raise ValueError unless a value is a whole number above 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{field} must be a whole number of at least 1, got {value!r}.")


def check_size(field: str, value: object) -> None:
    """Raise ValueError unless a value is the side of a picture in pixels: 8 to 8192, divisible by 8."""
    check_number(field, value, 8, 8192)
    if not isinstance(value, Integral) or value % 8:
        raise ValueError(f"{field} must be divisible by 8, got {value}.")


def check_type(field: str, value: object, wanted: type) -> None:
    """Raise ValueError unless a value is of a class."""
    if not isinstance(value, wanted):
        raise ValueError(f"{field} must be given as {wanted.__name__}, got {type(value).__name__}.")


def check_values(field: str, value: object) -> None:
    """Raise ValueError unless a value is a tensor of finite numbers with a fraction."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{field} must be a tensor of floating point numbers, got {found}.")
    check_not_meta(value, f"{field} is", "make it on another device")
    if not value.isfinite().all():
        raise ValueError(f"{field} holds NaN or inf.")


def check_start(start: Tensor, latent: Tensor) -> None:
    """Raise ValueError unless a start of inversion has finite values in the shape of the latent."""
    check_values("start", start)
    if start.shape != latent.shape:
        raise ValueError(
            f"start must have the shape of latent, {list(latent.shape)}, got {list(start.shape)}."
        )


def check_mask(mask: Tensor, latent: Tensor) -> None:
    """Raise ValueError unless a mask holds values in 0..1 and can be broadcast to the latent."""
    check_values("mask", mask)
    fits = mask.ndim == latent.ndim and all(
        side in (1, whole) for side, whole in zip(mask.shape, latent.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"mask must fit latent {list(latent.shape)}, got {list(mask.shape)}.")
    if mask.min() < 0 or mask.max() > 1:
        raise ValueError(f"mask must lie within 0..1, got {mask.min():g} to {mask.max():g}.")
