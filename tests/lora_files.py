"""LoRA files for Stable Diffusion 1 with the names that public libraries gave (tests/golden/lora), and one of
LyCORIS' other methods."""

import gzip
import json
from pathlib import Path

import torch
from torch import Tensor

KEYS = json.loads(gzip.decompress((Path(__file__).parent / "golden" / "lora" / "keys.json.gz").read_bytes()))
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
QUERY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
KEYS["lycoris"] = {
    # A convolution in three factors, LoCon, and a product of two products, LoHa.
    f"{CONV}.lora_down.weight": (3, 32, 1, 1),
    f"{CONV}.lora_mid.weight": (3, 3, 3, 3),
    f"{CONV}.lora_up.weight": (32, 3, 1, 1),
    f"{QUERY}.hada_w1_a": (32, 2),
    f"{QUERY}.hada_w1_b": (2, 32),
    f"{QUERY}.hada_w2_a": (32, 2),
    f"{QUERY}.hada_w2_b": (2, 32),
    f"{QUERY}.alpha": (),
}


def values(naming: str) -> dict[str, Tensor]:
    """Tensors for the keys of one naming, each with values of its own."""
    tensors = {}
    for number, (key, shape) in enumerate(sorted(KEYS[naming].items())):
        generator = torch.Generator().manual_seed(number)
        tensors[key] = (
            torch.tensor(6.0) if key.endswith(".alpha") else torch.randn(shape, generator=generator)
        )
    return tensors
