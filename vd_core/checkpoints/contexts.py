"""Contexts in files: saved ones, and embeddings that other programs predict (brain decoding feeds 257x768 and 77x768 matrices)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..context import Context
from .read import first_line, read
from .write import write_safetensors

TENSORS = ("tokens", "null", "emphasis", "null_emphasis")
NORM_ERROR = 0.1  # how far the norm of a picture's global token may be from 1


def save_context(path: str | Path, context: Context) -> None:
    """Write a context as safetensors: `tokens` [B, n, d], what else it has of `TENSORS`, its kind in the header. Its weight and its
    guidance are not kept.

    Raises ValueError for a context with a region, which is of no use without the picture that it lies in.
    """
    if context.region is not None:
        raise ValueError("A context with a region cannot be saved: save it before it gets the region.")
    tensors = {name: getattr(context, name) for name in TENSORS}
    write_safetensors(
        path, {name: tensor for name, tensor in tensors.items() if tensor is not None}, {"format": "pt", "vd_kind": context.kind}
    )


def load_context(path: str | Path, kind: str | None = None, normalise: bool = False) -> Context:
    """Read a context from a file of `save_context`, a .npy array, or any file with one tensor in it: [n, d] or [B, n, d].

    kind:      needed where the file does not say it.
    normalise: divide each sample of a picture's tokens by the norm of its first, the global one, as CLIP contexts are.

    Raises FileNotFoundError, and ValueError for what holds no tokens, a kind that is not known or not the file's, and tokens of a picture
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
    tokens = as_tokens(path, tensors.get("tokens", next(iter(tensors.values()))))
    null = as_tokens(path, tensors["null"]) if "null" in tensors else None
    if kind == "image":
        norms = tokens[:, :1].norm(dim=-1, keepdim=True)
        if normalise:
            tokens = tokens / norms
        elif (norms - 1).abs().max() > NORM_ERROR:
            raise ValueError(
                f"The global token of the picture in {path} has norm {norms.max():.3g} where contexts have 1: switch normalise on."
            )
    try:
        return Context(kind, tokens, null, emphasis=tensors.get("emphasis"), null_emphasis=tensors.get("null_emphasis"))
    except ValueError as error:
        raise ValueError(f"{path} does not fit together: {error}") from error


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
