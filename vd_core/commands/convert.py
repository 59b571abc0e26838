"""`versatile-diffusion convert`: any known layout to one safetensors file."""

from __future__ import annotations

import argparse

import torch

from ..checkpoints.convert import convert


def run(options: argparse.Namespace) -> None:
    """Convert, and say what was written."""
    written = convert(
        options.files,
        options.out,
        dtype=getattr(torch, options.dtype) if options.dtype else None,
        vocabularies=options.vocabularies,
        layout=options.layout,
        loras=[split_strength(entry) for entry in options.lora],
        overwrite=options.overwrite,
    )
    print(f"{options.out}: {', '.join(written)}")


def split_strength(entry: str) -> tuple[str, float]:
    """Split FILE=STRENGTH; a strength that is left out is 1."""
    path, _, strength = entry.rpartition("=")
    try:
        return (path, float(strength)) if path else (entry, 1.0)
    except ValueError:
        return entry, 1.0
