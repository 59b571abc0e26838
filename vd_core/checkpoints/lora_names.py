"""The names that LoRA files of other programs give to a model's layers.

Stable Diffusion 1's UNet has the layers of our image diffuser and of its text contexts; its text encoder is
our CLIP text tower. Four namings are known: kohya's (`lora_unet_down_blocks_0_…`), PEFT's
(`base_model.model.down_blocks.0.…`), diffusers' (`unet.down_blocks.0.…`) and that of 2023
(`….attn1.processor.to_k_lora…`), each for diffusers' names of the UNet; ComfyUI's are those of its own UNet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..config import DiffuserConfig
from .key_maps import KeyMap, diffusers_unet, unet_model

NATIVE = "diffusion_model."  # ComfyUI's and ours
DIFFUSERS = ("unet.", "", "base_model.model.", "unet.base_model.model.")
KOHYA = ("lora_unet_", "lycoris_")
TEXT_ENCODER = ("text_encoder.", "text_encoder.base_model.model.", "base_model.model.")
TEXT_KOHYA = ("lora_te_", "lora_te1_")

# What follows a layer's name, by what it is. The first of each are written: with them ComfyUI knows `mid`.
ROLES = {
    "down": (
        ".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight",
        "_lora.down.weight", ".lora_linear_layer.down.weight",
    ),
    "up": (
        ".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight",
        "_lora.up.weight", ".lora_linear_layer.up.weight",
    ),
    "mid": (".lora_mid.weight",),
    "alpha": (".alpha",),
    "w1_a": (".hada_w1_a",),
    "w1_b": (".hada_w1_b",),
    "w2_a": (".hada_w2_a",),
    "w2_b": (".hada_w2_b",),
}  # fmt: skip


def group_by_layer(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group the keys of a file by the layer that they name and by their role; a key with no known ending is
    left out."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        for role, endings in ROLES.items():
            for ending in endings:
                if key.endswith(ending):
                    found.setdefault(key.removesuffix(ending), {})[role] = key
    return found


def list_file_names(
    layers: Iterable[str], config: DiffuserConfig, data: Collection[str]
) -> dict[str, list[str]]:
    """List the names of the diffuser's layers in ComfyUI's MODELs of the output kinds `data`; none for a
    layer that they do not have.

    The MODEL that makes pictures is ComfyUI's UNet, with the transformers of text contexts under Stable
    Diffusion's names and those of other kinds beside them; the MODEL that makes texts has our own names.

    Raises ValueError for two kinds of pictures: both would have the same names.
    """
    maps = {
        kind: KeyMap(unet_model(config, kind, config.context))
        for kind in data
        if config.data[kind].layers == "2d"
    }
    if len(maps) > 1:
        raise ValueError(
            f"A LoRA file is for one kind of pictures, not for {' and '.join(maps)}: write one file for each."
        )

    def name_in(kind: str, layer: str) -> list[str]:
        if kind in maps:
            return [
                place.key.removesuffix(".weight") for place in maps[kind].theirs(f"diffuser.{layer}.weight")
            ]
        return [layer] if not layer.startswith("data.") or layer.startswith(f"data.{kind}.") else []

    return {
        layer: [
            NATIVE + name for name in dict.fromkeys(name for kind in data for name in name_in(kind, layer))
        ]
        for layer in layers
    }


def list_unet_names(layer: str, key_map: KeyMap) -> Iterator[str]:
    """List every name of one of the diffuser's layers in files for Stable Diffusion 1.

    key_map: diffusers' names of its UNet.
    """
    for place in key_map.theirs(f"diffuser.{layer}.weight"):
        name = place.key.removesuffix(".weight")
        yield from (prefix + name for prefix in DIFFUSERS)
        yield from (prefix + name.replace(".", "_") for prefix in KOHYA)
        if ".to_" in name:
            processor = name.replace(".to_", ".processor.to_").replace(".to_out.0", ".to_out")
            yield from (prefix + processor for prefix in DIFFUSERS[:2])


def unet_key_map(config: DiffuserConfig, kind: str) -> KeyMap:
    """Map diffusers' names of Stable Diffusion's UNet: pictures of a kind, and text contexts."""
    return KeyMap(diffusers_unet(config, kind, {"text": ""}))


def list_text_encoder_names(layer: str) -> Iterator[str]:
    """List every name of one of the text tower's layers; newer transformers leave `text_model.` out."""
    for name in (layer, layer.removeprefix("text_model.")):
        yield from (prefix + name for prefix in TEXT_ENCODER)
        yield from (prefix + name.replace(".", "_") for prefix in TEXT_KOHYA)
