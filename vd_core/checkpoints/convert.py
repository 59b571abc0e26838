"""Any files that make up a model -> one safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config import VDConfig
from .load import Paths, choose, locate_vocabularies, open_checkpoints, read_parts
from .parts import build
from .vocabularies import missing_vocabularies, to_tensors
from .write import export, metadata, write_safetensors


def convert(
    paths: Paths,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    vocabularies: str | Path | None = None,
    layout: str = "vd_core",
    config: VDConfig | None = None,
) -> list[str]:
    """Write all parts of the given files as one file, checked as strictly as for loading; returns what was written.

    dtype: of the floating point weights, None = as they are. layout: "vd_core", or another one of `layouts.LAYOUTS`.
    vocabularies: folder with Optimus' vocabularies, put into a file of our own layout; if None, those found as for loading, or none.
    """
    checkpoints, config = open_checkpoints(paths, config)
    sources = choose(checkpoints, config, None)
    tensors = read_parts(sources, build(config, sources))
    if layout != "vd_core":
        write_safetensors(out, export(tensors, layout, config), {"format": "pt"}, dtype)
        return list(sources)
    found, folders = locate_vocabularies(checkpoints, config, vocabularies)
    if found is None and vocabularies:
        raise FileNotFoundError(missing_vocabularies(folders))
    if "text_vae" not in sources and not vocabularies:
        found = None
    write_safetensors(out, tensors | (to_tensors(found) if found else {}), metadata(config), dtype)
    return [*sources, *(["vocabularies"] if found else [])]
