"""Contexts in files: saved ones, and embeddings that other programs predict (brain decoding feeds 257x768 and 77x768 matrices)."""

from __future__ import annotations

from math import isqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..context import Context, check_tokens
from .formats import first_line
from .read import read
from .write import write_safetensors

TENSORS = ("tokens", "null", "emphasis", "null_emphasis")
NORM_ERROR = 0.1  # how far the norm of a picture's global token may be from 1


def save_context(path: str | Path, context: Context) -> None:
    """Write a context as safetensors: `tokens` [B, n, d], what else it has of `TENSORS`, its kind in the header.

    Its weight and its guidance are not kept.

    Raises ValueError for a context with a region, which is of no use without the picture that it lies in.
    """
    if context.region is not None:
        raise ValueError("A context with a region cannot be saved: save it before it gets the region.")
    tensors = {name: getattr(context, name) for name in TENSORS}
    held = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    write_safetensors(path, held, {"format": "pt", "vd_kind": context.kind})


def load_context(path: str | Path, kind: str | None = None, normalise: bool = False) -> Context:
    """Read a context from a file of `save_context`, a .npy array, or any file with one tensor: [n, d] or [B, n, d].

    kind:      needed where the file does not say it.
    normalise: divide each sample of a picture's tokens by the norm of its first, the global one, as CLIP contexts are.

    Raises FileNotFoundError, and ValueError for what holds no tokens, a kind that is not known or not the file's, a
    matrix that is not the tokens of one picture, `normalise` for another kind than pictures, and tokens of a picture
    that are not normalised: the model would see them many times too large.
    """
    path = Path(path)
    tensors, stored = read_array(path) if path.suffix == ".npy" else read_tensors(path)
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
    if kind == "image":
        if given.ndim == 2:
            check_one_picture(path, given)
        tokens = normalised(path, tokens, normalise)
    elif normalise:
        raise ValueError(f"normalise is for pictures, but {path} holds a context of kind {kind}: switch it off.")
    try:
        context = Context(kind, tokens, null, emphasis=tensors.get("emphasis"), null_emphasis=tensors.get("null_emphasis"))
        check_tokens(context)
        return context
    except ValueError as error:
        raise ValueError(f"{path} does not fit together: {error}") from error


def check_one_picture(path: Path, matrix: Tensor) -> None:
    """Refuse a matrix [n, d] that is not the tokens of one picture, a global one and a square of patches.

    n rows of norm 1 are the global vectors of n pictures, as CLIP's encoders return them. Raises ValueError.
    """
    rows = len(matrix)
    alike = rows > 1 and bool(((matrix.float().norm(dim=-1) - 1).abs() < NORM_ERROR).all())
    if rows != 1 and (alike or isqrt(rows - 1) ** 2 != rows - 1):
        raise ValueError(
            f"{path} holds a matrix {list(matrix.shape)}, which is not one picture's global token and square of patches: "
            f"give [1, {rows}, width] if it is one picture all the same, [{rows}, 1, width] for the global vectors of {rows}."
        )


def normalised(path: Path, tokens: Tensor, normalise: bool) -> Tensor:
    """Divide tokens [B, n, d] by the norm of their first if wanted, else raise ValueError where it is not 1 already."""
    norms = tokens[:, :1].norm(dim=-1, keepdim=True)
    if normalise:
        if (norms == 0).any():
            raise ValueError(f"A picture's global token in {path} is zero, so its tokens cannot be normalised.")
        return tokens / norms
    if (norms - 1).abs().max() > NORM_ERROR:
        raise ValueError(
            f"The global token of the picture in {path} has norm {norms.max():.3g} where contexts have 1: "
            "switch normalise on."
        )
    return tokens


def read_array(path: Path) -> tuple[dict[str, Tensor], None]:
    """A .npy file; nothing in it is run."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # the parser of the header meets foreign bytes and can fail in any way
        raise ValueError(f"{path} is no array of numbers: {first_line(error)}.") from error
    if array.dtype.kind != "f":
        raise ValueError(f"{path} holds values of type {array.dtype} where numbers with a fraction are needed.")
    return {"tokens": torch.from_numpy(array.astype(np.float32))}, None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """A safetensors or torch.save file, and the kind in its header."""
    file = read(path)
    return dict(file.weights), file.metadata.get("vd_kind")


def as_tokens(path: Path, tensor: Tensor) -> Tensor:
    """[n, d] or [B, n, d] -> [B, n, d], float32."""
    if tensor.ndim not in (2, 3) or 0 in tensor.shape or not tensor.is_floating_point():
        raise ValueError(f"{path} holds {list(tensor.shape)} {tensor.dtype} where tokens [n, width] or [batch, n, width] are needed.")
    tokens = tensor.float().reshape(-1, *tensor.shape[-2:])
    if not tokens.isfinite().all():
        raise ValueError(f"The tokens in {path} are not all finite numbers.")
    return tokens
