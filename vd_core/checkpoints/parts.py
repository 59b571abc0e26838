"""What a model consists of, by the names its weights have in our files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..autoencoders.image_kl import AutoencoderKL
from ..autoencoders.optimus import Optimus
from ..config import VDConfig
from ..diffuser.model import Diffuser
from ..encoders.clip import Clip
from ..flows import VersatileDiffusion
from ..tokenizers import ClipTokenizer, Vocabularies


def list_parts(config: VDConfig) -> list[str]:
    """Return the parts that can be loaded one by one; each is a prefix of our keys."""
    data = [f"diffuser.data.{kind}" for kind in config.diffuser.data]
    contexts = [f"diffuser.context.{kind}" for kind in config.diffuser.context]
    return ["diffuser.time_embed", *data, *contexts, "clip_text", "clip_vision", "image_vae", "text_vae"]


# The parts around the diffuser that an output kind and a condition kind need.
DECODERS = {"image": "image_vae", "text": "text_vae"}
ENCODERS = {"image": "clip_vision", "text": "clip_text"}


def list_flow_parts(data: str, context: str) -> list[str]:
    """Return the parts of one flow: sample kind `data` under a context of kind `context`, and decode it."""
    around = [part for part in (ENCODERS.get(context), DECODERS.get(data)) if part]
    return ["diffuser.time_embed", f"diffuser.data.{data}", f"diffuser.context.{context}", *around]


class EmptyParameters(TorchFunctionMode):
    """While it is active, modules take no memory for their parameters (`torch.empty`); buffers (`arange`,
    `ones`, …) are real.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return func(*args, **{**kwargs, "device": "meta"} if func is torch.empty else kwargs)


def build(
    config: VDConfig, parts: Collection[str], vocabularies: Vocabularies | None = None
) -> VersatileDiffusion:
    """Return the given parts of a model, in eval mode, without memory for their parameters.

    Without vocabularies Optimus works on ids only.

    Raises ValueError for vocabularies that are damaged or of another size.
    """
    modules: dict[str, Any] = {}
    towers = [tower for tower in ("text", "vision") if f"clip_{tower}" in parts]
    merges = vocabularies.clip_merges if vocabularies else None
    tokenizer = ClipTokenizer(merges, config.clip.text.positions) if "text" in towers else None
    if tokenizer and merges is not None and tokenizer.bpe.vocab_size != config.clip.text.vocab_size:
        raise ValueError(
            f"CLIP's vocabulary has {tokenizer.bpe.vocab_size} tokens where {config.clip.text.vocab_size} "
            "are needed."
        )
    with EmptyParameters():
        if any(part.startswith("diffuser.") for part in parts):
            data = [kind for kind in config.diffuser.data if f"diffuser.data.{kind}" in parts]
            contexts = [kind for kind in config.diffuser.context if f"diffuser.context.{kind}" in parts]
            modules["diffuser"] = Diffuser(config.diffuser, data, contexts)
        if towers:
            modules["clip"] = Clip(config.clip, tokenizer, towers)
        if "image_vae" in parts:
            modules["image_vae"] = AutoencoderKL(config.image_vae).eval()
        if "text_vae" in parts:
            modules["text_vae"] = Optimus(config.text_vae, vocabularies)
    return VersatileDiffusion(config, **modules)


def collect_modules(model: VersatileDiffusion) -> dict[str, nn.Module]:
    """Return the modules of a model by the prefix of their keys."""
    clip = model.parts.get("clip")
    modules = {
        "diffuser": model.parts.get("diffuser"),
        "clip_text": clip and clip.text_tower,
        "clip_vision": clip and clip.vision_tower,
        "image_vae": model.parts.get("image_vae"),
        "text_vae": model.parts.get("text_vae"),
    }
    return {prefix: module for prefix, module in modules.items() if module is not None}


def collect_state(model: VersatileDiffusion) -> dict[str, Tensor]:
    """Collect all tensors of a model under our keys."""
    return {
        f"{prefix}.{key}": tensor
        for prefix, module in collect_modules(model).items()
        for key, tensor in module.state_dict().items()
    }
