"""LoRA files for Stable Diffusion 1 with the names that public libraries gave (tests/golden/lora)."""

import gzip
import json
from pathlib import Path

import torch
from torch import Tensor

KEYS = json.loads(gzip.decompress((Path(__file__).parent / "golden" / "lora" / "keys.json.gz").read_bytes()))


def values(naming: str) -> dict[str, Tensor]:
    """Tensors for the keys of one naming, each with values of its own."""
    tensors = {}
    for number, (key, shape) in enumerate(sorted(KEYS[naming].items())):
        generator = torch.Generator().manual_seed(number)
        tensors[key] = (
            torch.tensor(6.0) if key.endswith(".alpha") else torch.randn(shape, generator=generator)
        )
    return tensors
