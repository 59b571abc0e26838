"""Read and write contexts: saved ones, and embeddings from other programs.

Brain decoding, for example, predicts matrices of 257x768 and 77x768.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..config import is_kind
from ..context import NORMALISE, Context
from ..files import write_whole
from ..foreign import printable, quote_error
from .faults import is_finite
from .formats import resolve_existing
from .read import read
from .write import dump_safetensors

# Names of tensors in files, and the fields of `Context` that they hold. Files keep their names, so that old
# ones stay readable.
TENSORS = {
    "tokens": "tokens",
    "null": "null",
    "emphasis": "token_weights",
    "null_emphasis": "null_token_weights",
}
WEIGHTS = ("emphasis", "null_emphasis")
LONGEST_HEADER = 1 << 16  # bytes of the header of a .npy file, which tells one shape
SMALLEST_NORM = 1e-6  # below it, a picture's tokens are rounding errors
ALIKE = 0.1  # how far from 1 the norms of several pictures' global vectors may be
NORM_ERROR = 0.5  # of a picture's global token: CLIP's has norm 1, and predictions err


def save_context(path: str | Path, context: Context) -> None:
    """Write a context to a file, as `dump_context` does. Raises what that and `write_whole` raise."""
    with write_whole(path) as file:
        dump_context(file, context)


def dump_context(file: BinaryIO, context: Context) -> None:
    """Write a context as safetensors: those of `TENSORS` that it has, and its kind in the header.

    Its weight and its guidance are not kept.

    Raises ValueError for a context with a region, which is of no use without the picture that it lies in.
    """
    if context.region is not None:
        raise ValueError("A context with a region cannot be saved: save it before it gets the region.")
    tensors = {name: getattr(context, field) for name, field in TENSORS.items()}
    held = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    dump_safetensors(file, held, {"format": "pt", "vd_kind": context.kind})


def load_context(path: str | Path, kind: str | None = None, normalise: bool = False) -> Context:
    """Read a context from a file of `save_context`, a .npy array, or any file with one tensor.

    An array or a tensor is [n, d] or [B, n, d].

    kind:      needed where the file does not say it.
    normalise: divide each sample of a picture's tokens by the norm of its first, the global one, as CLIP
               contexts are.

    Raises FileNotFoundError, and ValueError for what holds no tokens, a kind that is not known or not the
    file's, a matrix that is not the tokens of one picture, `normalise` for another kind than pictures, and
    tokens of a picture from elsewhere that are not normalised: the model would see them many times too large.
    Texts may come from encoders that do not normalise (`anime_ug.pth` of Prompt-Free Diffusion has norms of
    28): only a sample of Versatile Diffusion tells (`check_tokens`).
    """
    path = resolve_existing(path)
    tensors, stored = read_array(path) if is_array(path) else read_tensors(path)
    if stored is not None and not is_kind(stored):
        raise ValueError(
            f"{path} says that it holds a context of kind {printable(stored)!r}: kinds are words like text "
            "or image."
        )
    if kind and stored and kind != stored:
        raise ValueError(f"{path} holds a context of kind {stored}, not {kind}.")
    kind = kind or stored
    if kind is None:
        raise ValueError(f"{path} does not say what kind of context it holds: choose text or image.")
    if "tokens" not in tensors and len(tensors) != 1:
        raise ValueError(f"{path} holds {len(tensors)} tensors and none is called tokens: it is no context.")
    given = tensors.get("tokens", next(iter(tensors.values())))
    tokens = as_tokens(path, given)
    null = as_tokens(path, tensors["null"]) if "null" in tensors else None
    weights = {name: as_token_weights(path, tensors[name], tokens) for name in WEIGHTS if name in tensors}
    if "null_emphasis" in tensors and null is None:
        raise ValueError(
            f"{path} holds weights of unconditional tokens (null_emphasis), but no such tokens (null)."
        )
    if kind == "image":
        if given.ndim == 2:
            check_one_picture(path, given)
        if normalise:
            tokens = normalise_tokens(path, tokens)
        elif not stored:  # what was saved may be an average, masked, or of another encoder
            check_norms(path, tokens)
    elif normalise:
        raise ValueError(
            f"normalise is for pictures, but {path} holds a context of kind {kind}: switch it off."
        )
    try:
        return Context(
            kind,
            tokens,
            null,
            token_weights=weights.get("emphasis"),
            null_token_weights=weights.get("null_emphasis"),
        )
    except ValueError as error:
        raise ValueError(f"{path} does not fit together: {error}") from error


def check_one_picture(path: Path, matrix: Tensor) -> None:
    """Refuse a matrix [n, d] that is not the tokens of one picture, a global one and a square of patches.

    n rows of norm 1 are the global vectors of n pictures, as CLIP's encoders return them. Raises ValueError.
    """
    rows = len(matrix)
    alike = rows > 1 and bool(((matrix.float().norm(dim=-1) - 1).abs() < ALIKE).all())
    if rows != 1 and (alike or isqrt(rows - 1) ** 2 != rows - 1):
        raise ValueError(
            f"{path} holds a matrix {list(matrix.shape)}, which is not one picture's global token and square "
            f"of patches: give [1, {rows}, width] if it is one picture all the same, [{rows}, 1, width] for "
            f"the global vectors of {rows}."
        )


def normalise_tokens(path: Path, tokens: Tensor) -> Tensor:
    """Divide tokens [B, n, d] by the norm of their first. Raises ValueError where that is zero."""
    norms = tokens[:, :1].double().norm(dim=-1, keepdim=True)
    if (norms < SMALLEST_NORM).any():
        raise ValueError(
            f"A picture's global token in {path} is zero or nearly so: its tokens cannot be normalised."
        )
    return (tokens / norms).float()


def check_norms(path: Path, tokens: Tensor) -> None:
    """Raise ValueError unless the first of tokens [B, n, d] have norms of about 1."""
    norms = tokens[:, 0].norm(dim=-1)
    worst = max(norms.tolist(), key=lambda norm: abs(norm - 1))
    if abs(worst - 1) > NORM_ERROR:
        raise ValueError(
            f"The global token of a picture in {path} has norm {worst:.3g} where CLIP's has 1: "
            f"{NORMALISE['image']}."
        )


def is_array(path: Path) -> bool:
    """Tell by its first bytes whether a file is one of numpy's arrays."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def map_array(path: Path) -> np.ndarray:
    """Map the array of a .npy file, so that it cannot claim more than the file has. Nothing in it is run, and
    its header, which may claim gigabytes, is checked first. Raises ValueError for what holds no fractions."""
    with path.open("rb") as file:
        start = file.read(12)
    header = int.from_bytes(start[8:12] if start[6:7] > b"\1" else start[8:10], "little")
    if header > LONGEST_HEADER:
        raise ValueError(f"{path} is no array of numbers: its header claims {header} bytes.")
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # the parser of the header meets foreign bytes and can fail in any way
        raise ValueError(
            f"{path} is no array of numbers: save it by numpy.save ({quote_error(error)})."
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of arrays: save the one that is meant by numpy.save.")
    if array.dtype.kind != "f":
        raise ValueError(
            f"{path} holds values of type {array.dtype} where numbers with a fraction are needed."
        )
    return array


def read_array(path: Path) -> tuple[dict[str, Tensor], None]:
    """Read tokens from a .npy file."""
    array = map_array(path)
    check_shape(path, array.shape, array.dtype)
    return {"tokens": torch.from_numpy(np.array(array, dtype=np.float32))}, None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return a safetensors or torch.save file, and the kind in its header."""
    file = read(path)
    return dict(file.weights), file.metadata.get("vd_kind")


def check_shape(path: Path, shape: Sequence[int], dtype: object) -> None:
    """Raise ValueError for what are not tokens [n, width] or [batch, n, width]."""
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(
            f"{path} holds {list(shape)} {dtype} where tokens [n, width] or [batch, n, width] are needed."
        )


def as_tokens(path: Path, tensor: Tensor) -> Tensor:
    """Bring tokens [n, d] or [B, n, d] to [B, n, d], float32, in memory of their own."""
    check_shape(path, tensor.shape, tensor.dtype)
    if not tensor.is_floating_point():
        raise ValueError(
            f"{path} holds {list(tensor.shape)} {tensor.dtype} where numbers with a fraction are needed."
        )
    tokens = tensor.to(torch.float32, copy=True).reshape(-1, *tensor.shape[-2:])
    if not is_finite(tokens):
        raise ValueError(f"The tokens in {path} are not all finite numbers.")
    return tokens


def as_token_weights(path: Path, tensor: Tensor, tokens: Tensor) -> Tensor:
    """Return the weight of each token, [1 or B, n], float32. Raises ValueError for another shape."""
    batch, count = tokens.shape[:2]
    if tensor.ndim != 2 or tensor.shape[0] not in (1, batch) or tensor.shape[1] != count:
        rows = "1" if batch == 1 else f"1 or {batch}"
        raise ValueError(
            f"{path} holds weights of tokens {list(tensor.shape)} where [{rows}, {count}] are needed."
        )
    return tensor.to(torch.float32, copy=True)
