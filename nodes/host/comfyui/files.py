"""The parts of model files as core's objects."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import comfy.clip_vision
import comfy.ops
import comfy.sd
import folder_paths
import torch
from comfy import model_management, model_patcher
from comfy.patcher_extension import WrappersMP
from comfy.utils import calculate_parameters, weight_dtype
from torch import Tensor

from ....vd_core.config import ClipConfig, ImageVAEConfig
from ....vd_core.finite import guard
from ...choices import WEIGHT_DTYPES
from . import wrapper
from .clip import clip_target
from .core_config import core_config
from .models import FlowModel, ImageUNet, TextDiffuser
from .seecoder import SeeCoderEncoder
from .text_vae import TextVAE

# vd_core.checkpoints is imported where it is used: it brings transformers, and ComfyUI shall start fast.


def keep_accepted(function: Callable, **arguments) -> dict:
    """Keep the keyword arguments that a function of this core takes. Its signature is asked, never core's
    version."""
    return {
        name: value for name, value in arguments.items() if name in inspect.signature(function).parameters
    }


def choose_patcher_class(disable_dynamic: bool) -> type[model_patcher.ModelPatcher]:
    """Choose core's class for a model: the one that streams weights where it has that (dynamic VRAM), else
    the plain one.

    Core asks for a plain one (`disable_dynamic`) where it compiles a model, hooks LoRAs to it or moves it to
    a device.
    """
    plain = model_patcher.ModelPatcher
    return plain if disable_dynamic else getattr(model_patcher, "CoreModelPatcher", plain)


def streams_weights(patcher: model_patcher.ModelPatcher) -> bool:
    """Tell whether a patcher streams its weights (dynamic VRAM); older cores have no patcher that does."""
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()


def load_flow(
    path: Path, data: str, contexts: str, dtype: str, disable_dynamic: bool = False
) -> model_patcher.ModelPatcher:
    """Load the flows that make `data`, under the contexts of that choice, as a MODEL. dtype: a key of
    WEIGHT_DTYPES."""
    from ....vd_core.checkpoints.key_maps import KeyMap, unet_model
    from ....vd_core.checkpoints.load import open_checkpoints, read_weights
    from ....vd_core.diffuser.precision import find_fastest_dtype

    kinds = list(open_checkpoints(path)[1].diffuser.context) if contexts == "all" else [contexts]
    weights = read_weights(
        path, parts=[f"diffuser.data.{data}", *(f"diffuser.context.{kind}" for kind in kinds)]
    )
    config = weights.model.config
    unet: type[torch.nn.Module]
    if config.diffuser.data[data].layers == "2d":
        unet, key_map = ImageUNet, KeyMap(unet_model(config.diffuser, data, kinds))
        state = {key_map.theirs(key)[0].key: tensor for key, tensor in weights.state.items()}
    else:
        unet, state = TextDiffuser, strip_prefix("diffuser.", weights.state)
    core = core_config(config, data, {kind: config.diffuser.context[kind] for kind in kinds})
    device, types = model_management.get_torch_device(), core.supported_inference_dtypes
    name = WEIGHT_DTYPES[dtype]
    wanted = None if name is None else getattr(torch, name)
    if dtype == "auto" and device.type == "cpu":
        wanted = find_fastest_dtype()
    stored = wanted or model_management.unet_dtype(
        model_params=calculate_parameters(state), supported_dtypes=types, weight_dtype=weight_dtype(state)
    )
    core.set_inference_dtype(stored, model_management.unet_manual_cast(stored, device, types))
    offload_device = model_management.unet_offload_device()
    model = FlowModel(core, config, data, unet, device=offload_device)
    patcher = choose_patcher_class(disable_dynamic)(model, load_device=device, offload_device=offload_device)
    # layers that stream keep the file's own tensors and cast them on their way to the device
    if not streams_weights(patcher):
        state = {key: tensor.to(offload_device, stored, copy=True) for key, tensor in state.items()}
    model.diffusion_model.load_state_dict(state, strict=True, assign=True)
    if core.manual_cast_dtype is None:
        cast_norms(model.diffusion_model, stored)
    patcher.cached_patcher_init = (load_flow, (path, data, contexts, dtype))
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "vd_sampling", wrapper.sample)
    return patcher


def cast_norms(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give the norms the type in which the model computes. Where weights are streamed they are too small for
    that and keep the file's type; they are cast as they act, but core's ControlLora, which hands the model's
    weights to a network of its own, does not cast norms."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.GroupNorm | torch.nn.LayerNorm):
            layer.to(dtype)


def load_clip(path: Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Load the text tower of a file as a CLIP."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["clip_text"])
    state = strip_prefix("clip_text.", weights.state)
    target = clip_target(weights.model.config.clip, weights.vocabularies)
    # Newer cores may load the CLIP onto its device at the end of its construction, so they take its weights
    # there.
    options = keep_accepted(comfy.sd.CLIP, state_dict=[dict(state)], disable_dynamic=disable_dynamic)
    embeddings = folder_paths.get_folder_paths("embeddings")
    clip = comfy.sd.CLIP(target, embeddings, parameters=calculate_parameters(state), **options)
    if "state_dict" not in options:
        clip.load_sd(dict(state))
    tower = clip.cond_stage_model.clip_l.transformer.state_dict().keys()
    check_keys(path, sorted(tower - state.keys()), sorted(state.keys() - tower))
    clip.patcher.cached_patcher_init = (clip_patcher, (path,))
    return clip


def clip_patcher(path: Path, disable_dynamic: bool = False) -> model_patcher.ModelPatcher:
    """Load the text tower of a file once more, for core, which rebuilds models from `cached_patcher_init`."""
    return load_clip(path, disable_dynamic).patcher


def load_clip_vision(path: Path) -> comfy.clip_vision.ClipVisionModel:
    """Load the vision tower of a file as a CLIP_VISION."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["clip_vision"])
    with tempfile.TemporaryDirectory() as folder:  # core reads the sizes from a file
        sizes = Path(folder, "config.json")
        sizes.write_text(json.dumps(vision_sizes(weights.model.config.clip)), encoding="utf-8")
        clip_vision = comfy.clip_vision.ClipVisionModel(str(sizes))
    check_keys(path, *clip_vision.load_sd(strip_prefix("clip_vision.", weights.state)))
    clip_vision.doubt_below = weights.model.config.clip.doubt_below
    return clip_vision


def vision_sizes(config: ClipConfig) -> dict:
    """Name the sizes of the vision tower as transformers, and so core, name them."""
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


class ImageVAE(comfy.sd.VAE):
    """Core's VAE, which knows a text latent when it sees one, and names what is not finite."""

    def decode(self, samples_in: Tensor, *args, **kwargs) -> Tensor:
        """Decode latents [B, C, h, w] to IMAGE. Raises ValueError for text latents."""
        if samples_in.shape[1] != self.latent_channels and samples_in.shape[2:] == (1, 1):
            raise ValueError("samples are text latents: decode them with Latent to Text (VD).")
        return super().decode(samples_in, *args, **kwargs)


def load_image_vae(path: Path) -> ImageVAE:
    """Load the image autoencoder of a file as a VAE."""
    from ....vd_core.checkpoints.load import read_weights

    weights = read_weights(path, parts=["image_vae"])
    config = weights.model.config.image_vae
    vae = ImageVAE(sd=strip_prefix("image_vae.", weights.state), config={"params": vae_sizes(config)})
    vae.latent_channels = config.latent_channels
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (len(config.channel_mult) - 1)
    guard(vae.first_stage_model)
    vae.patcher.cached_patcher_init = (image_vae_patcher, (path,))
    return vae


def image_vae_patcher(path: Path, disable_dynamic: bool = False) -> model_patcher.ModelPatcher:
    """Load an image autoencoder once more, for core. `disable_dynamic` is passed to every such function;
    core's own for VAEs leaves it unused too, as its class VAE has no such choice, and wraps the network
    itself."""
    return load_image_vae(path).patcher


def vae_sizes(config: ImageVAEConfig) -> dict:
    """Name the sizes of the autoencoder as core names them."""
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
    """Load the text autoencoder of a file."""
    from ....vd_core.checkpoints.load import load

    device = model_management.text_encoder_device()
    half = not model_management.is_device_cpu(device) and model_management.should_use_fp16(device)
    model = load(path, parts=["text_vae"], dtype=torch.float16 if half else torch.float32)
    return TextVAE(model.text_vae, device)


def load_seecoder(path: Path) -> SeeCoderEncoder:
    """Load a SeeCoder of any kind."""
    from ....seecoder.checkpoints import from_tensors
    from ....vd_core.checkpoints.read import read

    device = model_management.get_torch_device()
    half = not model_management.is_device_cpu(device) and model_management.should_use_fp16(device)
    dtype = torch.float16 if half else torch.float32
    seecoder = from_tensors(read(path).weights, str(path), ops=comfy.ops.manual_cast, dtype=dtype)
    return SeeCoderEncoder(seecoder, device, dtype)


def load_pfd(path: Path, disable_dynamic: bool = False) -> model_patcher.ModelPatcher:
    """Load a diffuser of Prompt-Free Diffusion as core's own MODEL of Stable Diffusion 1."""
    from ....vd_core.checkpoints.convert import stable_diffusion_unet

    load = comfy.sd.load_diffusion_model_state_dict
    model = load(stable_diffusion_unet(path), **keep_accepted(load, disable_dynamic=disable_dynamic))
    if model is None:
        raise ValueError(
            f"ComfyUI does not recognise the diffuser in {path.name} as Stable Diffusion 1: its sizes are "
            "others."
        )
    model.cached_patcher_init = (load_pfd, (path,))
    return model


def strip_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pick the tensors whose keys start with a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def check_keys(path: Path, missing: list[str], unexpected: list[str]) -> None:
    """Raise ValueError where core's CLIP has other keys than the file, which was checked against vd_core's
    modules."""
    if missing or unexpected:
        raise ValueError(
            f"This version of ComfyUI builds CLIP in another way than this pack knows, so {path.name} does "
            f"not fit (missing {missing[:2]}, unexpected {unexpected[:2]}); please report it."
        )
