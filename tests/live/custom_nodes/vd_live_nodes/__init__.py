"""Nodes that only the live tests use: what other packs do to MODELs, models too small for any loader, and a
look at loaded models."""

import copy
import ctypes
import gc
import json
from pathlib import Path

import comfy.cldm.cldm
import comfy.clip_vision
import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import psutil
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP


class AttentionPatches:
    """Patches cross-attention in the ways that IPAdapter packs do: a replacement per block, or a patch before
    or after all."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"model": ("MODEL",), "way": (["attn2 replace", "attn2", "attn2 output", "attn1"],)}
        }

    def execute(self, model, way):
        model = model.clone()
        if way == "attn2 replace":

            def replace(q, k, v, extra_options):
                heads = extra_options["n_heads"]
                return optimized_attention(q, k, v, heads) + 0.5 * optimized_attention(q, k.flip(1), v, heads)

            for block in [
                ("input", 1),
                ("input", 3),
                ("middle", 0),
                *(("output", number) for number in range(4)),
            ]:
                model.set_model_attn2_replace(replace, *block)
        elif way == "attn2":
            model.set_model_attn2_patch(lambda q, k, v, extra_options: (q, k, v * 1.5))
        elif way == "attn2 output":
            model.set_model_attn2_output_patch(lambda out, extra_options: out * 1.5)
        else:
            model.set_model_attn1_patch(lambda q, k, v, extra_options: (q, k, v * 1.2))
        return (model,)


class Wrappers:
    """Wraps the model at every level at which packs do."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model):
        model = model.clone()
        for kind in (WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL):
            model.add_wrapper_with_key(
                kind, "vd_live", lambda executor, *args, **kwargs: executor(*args, **kwargs) * 1.02
            )
        for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.CALC_COND_BATCH, WrappersMP.PREDICT_NOISE):
            model.add_wrapper_with_key(
                kind, "vd_live", lambda executor, *args, **kwargs: executor(*args, **kwargs)
            )
        model.set_model_unet_function_wrapper(
            lambda apply, args: apply(args["input"], args["timestep"], **args["c"])
        )
        return (model,)


class StockModel:
    """A MODEL of Stable Diffusion 1's architecture, too small for a checkpoint loader."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def execute(self):
        sizes = unet_sizes(4, 32, 32) | {"out_channels": 4, "transformer_depth_output": [1, 1, 1, 1]}
        config = comfy.supported_models.SD15(sizes)
        model = comfy.model_base.BaseModel(config)
        fill(model.diffusion_model)
        device = comfy.model_management.get_torch_device()
        return (
            comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu")),
        )


class ControlNet:
    """A CONTROL_NET with random weights in the sizes of a MODEL of Versatile Diffusion."""

    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model):
        unet = model.model.diffusion_model
        width = unet.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features
        net = comfy.cldm.cldm.ControlNet(
            hint_channels=3,
            operations=comfy.ops.disable_weight_init,
            **unet_sizes(unet.in_channels, unet.model_channels, width),
        )
        fill(net)
        return (comfy.controlnet.ControlNet(net, load_device=comfy.model_management.get_torch_device()),)


def unet_sizes(channels: int, width: int, context: int) -> dict:
    """Two levels, as the embedded model has them."""
    return {
        "image_size": 32,
        "in_channels": channels,
        "model_channels": width,
        "num_res_blocks": [1, 1],
        "channel_mult": (1, 1),
        "num_heads": 4,
        "use_spatial_transformer": True,
        "legacy": False,
        "transformer_depth": [1, 1],
        "transformer_depth_middle": 1,
        "context_dim": context,
    }


def fill(module: torch.nn.Module) -> None:
    """Random weights: core's layers are not initialised, and where weights are streamed its linear ones hold
    none before a file is loaded."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear) and layer.weight is None:
            layer.weight = empty(layer.out_features, layer.in_features)
            layer.bias = empty(layer.out_features) if layer.comfy_need_lazy_init_bias else None
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.copy_(
            torch.randn(parameter.shape, generator=generator) * 0.5 / max(parameter[0].numel(), 1) ** 0.5
        )


def empty(*shape: int) -> torch.nn.Parameter:
    """A weight of that shape."""
    return torch.nn.Parameter(torch.empty(shape), requires_grad=False)


class Memory:
    """What the process holds once `after` is there, as JSON: loaded models with their numbers of parameters,
    MODELs of this pack that are alive, Python's objects, bytes in tensors, jobs in the history, resident
    bytes, and those after glibc gave back what it had kept."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("*",)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    def execute(self, after):
        import server  # is there in a running server alone

        gc.collect()
        objects, storages = gc.get_objects(), {}
        for item in objects:
            if type(item) in (torch.Tensor, torch.nn.Parameter) and item.device.type == "cpu":
                storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        loaded = [
            entry.model.model
            for entry in comfy.model_management.current_loaded_models
            if entry.model is not None
        ]
        report = {
            "loaded": {
                type(model).__name__: sum(parameter.numel() for parameter in model.parameters())
                for model in loaded
            },
            "flows": len([item for item in objects if type(item).__name__ == "FlowModel"]),
            "objects": len(objects),
            "tensors": sum(storages.values()),
            "history": len(server.PromptServer.instance.prompt_queue.history),
            "resident": psutil.Process().memory_info().rss,
        }
        ctypes.CDLL(None).malloc_trim(0)
        report["trimmed"] = psutil.Process().memory_info().rss
        return {"ui": {"text": [json.dumps(report)]}, "result": (json.dumps(report),)}


class StrangeClip:
    """CLIPs and vision models that Versatile Diffusion cannot use."""

    RETURN_TYPES = ("CLIP", "CLIP_VISION")
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"projection": (["identity", "zeros", "garbage"],)}}

    def execute(self, projection):
        clip = comfy.sd.load_text_encoder_state_dicts([{}], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)
        weight = clip.cond_stage_model.clip_l.transformer.text_projection.weight
        contents = {
            "identity": torch.eye(768),
            "zeros": torch.zeros(768, 768),
            "garbage": torch.full((768, 768), torch.nan),
        }
        with torch.no_grad():
            weight.copy_(contents[projection])
        sizes = Path(comfy.clip_vision.__file__).with_name("clip_vision_siglip_384.json")
        return clip, comfy.clip_vision.ClipVisionModel(str(sizes))


class ComputeIn:
    """A MODEL or a VAE that computes in a type which core does not choose by itself on a CPU."""

    RETURN_TYPES = ("MODEL", "VAE")
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "vae": ("VAE",), "dtype": (["float16", "bfloat16"],)}}

    def execute(self, model, vae, dtype):
        dtype = getattr(torch, dtype)
        model.model.manual_cast_dtype = (
            dtype  # with core's layers, which cast their weights to the type of what comes in
        )
        vae.first_stage_model.to(dtype)
        vae.vae_dtype = dtype
        return model, vae


class CountCalls:
    """A MODEL that counts how often its network is called, and with how many rows."""

    RETURN_TYPES = ("MODEL", "VDLIVE_CALLS")
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model):
        model, calls = model.clone(), []

        def count(executor, x, *args, **kwargs):
            calls.append(len(x))
            return executor(x, *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "vd_live_calls", count)
        return model, calls


class ShowCalls:
    """Those counts once `after` is there, as JSON."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"calls": ("VDLIVE_CALLS",), "after": ("LATENT",)}}

    def execute(self, calls, after):
        return {"ui": {"text": [json.dumps(calls)]}}


class Tokens:
    """Tokens of a CONDITIONING, as JSON."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def execute(self, conditioning):
        return {"ui": {"text": [json.dumps(conditioning[0][0].tolist())]}}


class DeepClone:
    """MODEL, CLIP and VAE with weights of their own, as core makes them for a second GPU."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",)}}

    def execute(self, model, clip, vae):
        clip, vae = clip.clone(), copy.copy(vae)
        model, clip.patcher, vae.patcher = (
            patcher.deepclone_multigpu(patcher.load_device) for patcher in (model, clip.patcher, vae.patcher)
        )
        clip.cond_stage_model, vae.first_stage_model = clip.patcher.model, vae.patcher.model
        return model, clip, vae


class Plain:
    """A MODEL whose weights are not streamed, as core makes it to be compiled."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def execute(self, model):
        return (model.clone(disable_dynamic=True),)


NODE_CLASS_MAPPINGS = {
    "VDLive_DeepClone": DeepClone,
    "VDLive_Plain": Plain,
    "VDLive_StrangeClip": StrangeClip,
    "VDLive_ComputeIn": ComputeIn,
    "VDLive_CountCalls": CountCalls,
    "VDLive_ShowCalls": ShowCalls,
    "VDLive_Tokens": Tokens,
    "VDLive_AttentionPatches": AttentionPatches,
    "VDLive_Wrappers": Wrappers,
    "VDLive_StockModel": StockModel,
    "VDLive_ControlNet": ControlNet,
    "VDLive_Memory": Memory,
}
