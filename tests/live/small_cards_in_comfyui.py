"""Inside ComfyUI: what cards with little memory need of the MODELs: weights that come layer by layer, and
weights of 8 bits.

usage: small_cards_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
Prints JSON {flow: what was found}. There is no card here: the place of one takes torch's "meta" device, where
nothing is computed, but whatever stays behind on the CPU stops the run, and the memory that a run would take
can be counted.
"""

from __future__ import annotations

import json
import sys
import weakref

import torch
from pack_in_comfyui import part, start
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class Counted(TorchDispatchMode):
    """Counts the bytes on the card that are alive at once, at most."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.seen = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = (
                tensor.untyped_storage() if isinstance(tensor, Tensor) and tensor.device == META else None
            )
            if storage is not None and storage not in self.seen:
                self.seen.add(storage)
                self.change(storage.nbytes())
                weakref.finalize(storage, self.change, -storage.nbytes())
        return result

    def change(self, size: int) -> None:
        """So much more is alive."""
        self.alive += size
        self.peak = max(self.peak, self.alive)


class FusedAttention(TorchFunctionMode):
    """Attention takes the memory of its result, as the kernels of cards do."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


def inputs(
    config, data: str, kinds: list[str], side: int, batch: int, dtype: torch.dtype
) -> tuple[tuple, dict]:
    """What the network is called with: latents, a timestep, contexts of each kind in equal shares."""
    generator, sizes = torch.Generator().manual_seed(1), config.diffuser.data[data]
    x = torch.randn(
        batch, sizes.channels, *((side, side) if data == "image" else (1, 1)), generator=generator
    ).to(dtype)
    counts = {"text": config.clip.text.positions, "image": config.clip.vision.positions}
    tokens = torch.randn(
        batch, sum(counts[kind] for kind in kinds), config.diffuser.context[kinds[0]], generator=generator
    ).to(dtype)
    layout = tuple(part("nodes.conditioning").Part(kind, counts[kind], 1 / len(kinds)) for kind in kinds)
    return (x, torch.full((batch,), 500.0)), {"context": tokens, "vd_layout": layout}


def on_card(patcher, given: tuple[tuple, dict]) -> int:
    """A run on the card; the most bytes that it takes there, besides weights that stay there. Raises where
    something is left behind."""
    positional, named = given
    arguments = [tensor.to(META) for tensor in positional]
    context = named["context"].to(META)
    with FusedAttention(), Counted() as counted:
        # of which there may be views
        counted.seen.update(weight.untyped_storage() for weight in patcher.model.parameters())
        patcher.model.diffusion_model(*arguments, **{**named, "context": context})
    return counted.peak + sum(tensor.nbytes for tensor in (*arguments, context))


def layers(patcher) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of the modules that have weights of their own: those that core brings one by one, and the
    others."""
    found = ({}, {})
    for name, module in patcher.model.diffusion_model.named_modules():
        size = sum(
            weight.nbytes for weight in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        )
        if size:
            found[0 if hasattr(module, "comfy_cast_weights") else 1][name] = size
    return found


def embedded(data: str) -> dict:
    """The embedded model loaded whole, in part, and with weights of 8 bits."""
    load, model = part("nodes.host.comfyui.files").load_flow, part("vd_core.embedded").MODEL
    patcher, rounded, stored = (load(model, data, "all", dtype) for dtype in ("fp32", "fp32", "fp8_e4m3fn"))
    given = inputs(patcher.model.vd_config, data, ["text", "image"], 8, 2, torch.float32)

    def run(of) -> Tensor:
        return of.model.diffusion_model(*given[0], **given[1])

    castable, others = layers(patcher)
    size, plain = patcher.model_size(), run(patcher)
    patcher.load(torch.device("cpu"), lowvram_model_memory=size // 4)
    found = {
        "outside": others,
        "bytes": sum(castable.values()) - size,
        "partly loaded": patcher.model.model_lowvram and patcher.loaded_size() < size // 2,
        "partly loaded, changed": int((run(patcher) != plain).sum()),
    }
    patcher.unpatch_model(torch.device("cpu"))
    patcher.load(META, lowvram_model_memory=1)
    on_card(patcher, given)
    for weight in rounded.model.diffusion_model.parameters():
        weight.copy_(weight.to(torch.float8_e4m3fn))
    types = {weight.dtype for weight in stored.model.diffusion_model.parameters()}
    return found | {
        "8 bits": types == {torch.float8_e4m3fn},
        "8 bits, changed": int((run(stored) != run(rounded)).sum()),
    }


def full_size(data: str, kinds: list[str], side: int) -> dict[str, int]:
    """Bytes of the whole model in float16, under one context: counted, nothing is computed."""
    models, config = part("nodes.host.comfyui.models"), part("vd_core.config").VDConfig()
    contexts = {kind: config.diffuser.context[kind] for kind in kinds}
    core = part("nodes.host.comfyui.core_config").core_config(config, data, contexts)
    core.set_inference_dtype(torch.float16, None)
    network = models.ImageUNet if data == "image" else models.TextDiffuser
    model, cpu = (
        models.FlowModel(core, config, data, network, device=torch.device("cpu")),
        torch.device("cpu"),
    )
    patcher = part("nodes.host.comfyui.files").choose_patcher_class(False)(
        model, load_device=cpu, offload_device=cpu
    )
    castable, others = layers(patcher)
    once, twice = (inputs(config, data, kinds, side, batch, torch.float16) for batch in (1, 2))
    patcher.load(META, lowvram_model_memory=1)
    found = {
        "weights": sum(castable.values()),
        "outside": sum(others.values()),
        "largest": max(castable.values()),
    }
    found["layer by layer"] = on_card(patcher, once)
    patcher.model.to(META)
    return found | {"step": on_card(patcher, twice), "half a step": on_card(patcher, once)}


if __name__ == "__main__":
    start(sys.argv[1:])
    with torch.inference_mode():
        result = {data: embedded(data) for data in ("image", "text")}
        result["image variation at 512 px"] = full_size("image", ["image"], 64)
        result["caption"] = full_size("text", ["image"], 1)
    print(json.dumps(result))
