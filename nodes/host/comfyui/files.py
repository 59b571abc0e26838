"""Model files in ComfyUI's folders: which there are, and their parts as core's objects."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import folder_paths
import torch
from comfy import model_management, model_patcher
from comfy.utils import calculate_parameters, weight_dtype
from torch import Tensor

from ....vd_core.config import ClipConfig, ImageVAEConfig
from ....vd_core.embedded import MODEL
from ...choices import EMBEDDED, WEIGHT_DTYPES
from .clip import clip_target
from .models import FlowModel, ImageUNet, TextDiffuser, core_config
from .text_vae import TextVAE

# vd_core.checkpoints is imported where it is used: it brings transformers, and ComfyUI shall start fast.

OWN_FOLDER = "versatile_diffusion"
FOLDERS = {  # where users may have files of each role already
    "model": (OWN_FOLDER, "checkpoints", "diffusion_models"),
    "clip": (OWN_FOLDER, "text_encoders"),
    "clip_vision": (OWN_FOLDER, "clip_vision"),
    "vae": (OWN_FOLDER, "vae"),
    "text_vae": (OWN_FOLDER,),
}
CORE_PATCHER = getattr(model_patcher, "CoreModelPatcher", model_patcher.ModelPatcher)  # newer cores stream weights with the former


def register_folder() -> None:
    """Makes models/versatile_diffusion known to ComfyUI; folders that extra_model_paths.yaml gave it stay."""
    folder_paths.add_model_folder_path(OWN_FOLDER, os.path.join(folder_paths.models_dir, OWN_FOLDER))
    folder_paths.folder_names_and_paths[OWN_FOLDER][1].update(folder_paths.supported_pt_extensions)


def file_names(role: str) -> list[str]:
    """The files that may be of a role (a key of FOLDERS)."""
    return list(dict.fromkeys(name for folder in FOLDERS[role] for name in folder_paths.get_filename_list(folder)))


def find(name: str, role: str) -> Path:
    """The path of a file of that role. Raises FileNotFoundError with what was searched for where."""
    from ....vd_core.checkpoints.published import find_model

    if name == EMBEDDED:
        return MODEL
    return find_model(name, [path for folder in FOLDERS[role] for path in folder_paths.get_folder_paths(folder)])


def load_flow(path: Path, data: str, contexts: str, dtype: str) -> model_patcher.ModelPatcher:
    """The flows that make `data`, under the contexts of that choice, as a MODEL. dtype: a key of WEIGHT_DTYPES."""
    from ....vd_core.checkpoints.key_maps import KeyMap, unet_model
    from ....vd_core.checkpoints.load import open_checkpoints, read_weights

    kinds = list(open_checkpoints(path)[1].diffuser.context) if contexts == "all" else [contexts]
    weights = read_weights(path, parts=[f"diffuser.data.{data}", *(f"diffuser.context.{kind}" for kind in kinds)])
    config = weights.model.config
    if config.diffuser.data[data].layers == "2d":
        unet, key_map = ImageUNet, KeyMap(unet_model(config.diffuser, data, kinds))
        state = {key_map.theirs(key)[0].key: tensor for key, tensor in weights.state.items()}
    else:
        unet, state = TextDiffuser, below("diffuser.", weights.state)
    core = core_config(config, data, {kind: config.diffuser.context[kind] for kind in kinds})
    device, types = model_management.get_torch_device(), core.supported_inference_dtypes
    wanted = WEIGHT_DTYPES[dtype] and getattr(torch, WEIGHT_DTYPES[dtype])
    stored = wanted or model_management.unet_dtype(
        model_params=calculate_parameters(state), supported_dtypes=types, weight_dtype=weight_dtype(state)
    )
    core.set_inference_dtype(stored, model_management.unet_manual_cast(stored, device, types))
    model = FlowModel(core, config, data, unet, device=model_management.unet_offload_device())
    model.diffusion_model.load_state_dict(state, strict=True)
    return CORE_PATCHER(model, load_device=device, offload_device=model_management.unet_offload_device())


def load_clip(path: Path) -> comfy.sd.CLIP:
    """The text tower of a file as a CLIP."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["clip_text"])
    state = below("clip_text.", weights.state)
    target = clip_target(weights.model.config.clip, weights.vocabularies)
    clip = comfy.sd.CLIP(target, folder_paths.get_folder_paths("embeddings"), parameters=calculate_parameters(state))
    check_keys(path, *clip.load_sd(state))
    return clip


def load_clip_vision(path: Path) -> comfy.clip_vision.ClipVisionModel:
    """The vision tower of a file as a CLIP_VISION."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["clip_vision"])
    with tempfile.TemporaryDirectory() as folder:  # core reads the sizes from a file
        sizes = Path(folder, "config.json")
        sizes.write_text(json.dumps(vision_sizes(weights.model.config.clip)), encoding="utf-8")
        clip_vision = comfy.clip_vision.ClipVisionModel(str(sizes))
    check_keys(path, *clip_vision.load_sd(below("clip_vision.", weights.state)))
    return clip_vision


def vision_sizes(config: ClipConfig) -> dict:
    """The sizes of the vision tower as transformers, and so core, name them."""
    return {
        "model_type": "clip_vision_model",
        "num_channels": 3,
        "hidden_act": "quick_gelu",
        "num_hidden_layers": config.vision.layers,
        "hidden_size": config.vision.width,
        "num_attention_heads": config.vision.heads,
        "intermediate_size": config.vision.mlp_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "projection_dim": config.projection_dim,
    }


def load_image_vae(path: Path) -> comfy.sd.VAE:
    """The image autoencoder of a file as a VAE."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["image_vae"])
    config = weights.model.config.image_vae
    vae = comfy.sd.VAE(sd=below("image_vae.", weights.state), config={"params": vae_sizes(config)})
    vae.latent_channels = config.latent_channels
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (len(config.channel_mult) - 1)
    return vae


def vae_sizes(config: ImageVAEConfig) -> dict:
    """The sizes of the autoencoder as core names them."""
    sizes = {
        "double_z": True,
        "z_channels": config.latent_channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": config.channels,
        "ch_mult": list(config.channel_mult),
        "num_res_blocks": config.num_res_blocks,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return {"ddconfig": sizes, "embed_dim": config.latent_channels}


def load_text_vae(path: Path) -> TextVAE:
    """The text autoencoder of a file."""
    from ....vd_core.checkpoints.load import load

    device = model_management.text_encoder_device()
    half = not model_management.is_device_cpu(device) and model_management.should_use_fp16(device)
    return TextVAE(load(path, parts=["text_vae"], dtype=torch.float16 if half else torch.float32).text_vae, device)


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose keys start with a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def check_keys(path: Path, missing: list[str], unexpected: list[str]) -> None:
    """The file was checked against vd_core's modules; this says so if core's have changed."""
    if missing or unexpected:
        raise ValueError(
            f"This version of ComfyUI builds CLIP in another way than this pack knows, so {path.name} does not fit "
            f"(missing {missing[:2]}, unexpected {unexpected[:2]}); please report it."
        )
