"""Flows as MODELs: what core's samplers call, on core's modules, so that its patches, LoRAs and ControlNets
find what they know."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import cast

import torch
from comfy import conds
from comfy.ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential, UNetModel
from comfy.model_base import BaseModel, ModelType
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from comfy.supported_models import SD15
from torch import Tensor

from ....vd_core.config import DataConfig, DiffuserConfig, VDConfig
from ....vd_core.context import Context, check_tokens
from ....vd_core.diffuser.mixing import Share, add_share, attention_mixing
from ....vd_core.diffuser.model import Diffuser
from ....vd_core.regions import compute_local_ratios
from ....vd_core.sampling.schedule import Schedule
from ...conditioning import Layout, split_token_weights, split_tokens
from ...latents import fit_latent

# by their keys in a conditioning
FOR_PICTURES = {"control": "A ControlNet", "gligen": "GLIGEN", "area": "An area", "mask": "A mask"}


class WeightedAttention(CrossAttention):
    """Core's cross-attention with token weights: each token counts as often as the option `vd_token_weights`
    says, [B, n]."""

    def forward(self, x, context=None, value=None, mask=None, transformer_options=None):
        options = transformer_options or {}
        if (weights := options.get("vd_token_weights")) is not None:
            mask = weights.to(x).log()[:, None]
        return super().forward(x, context, value, mask, options)


class ContextTransformers(SpatialTransformer):
    """The transformers of one site: that of "text" under SD's names, where SD's LoRAs look for it, each other
    kind's beside it."""

    def __init__(self, width: int, heads: int, contexts: dict[str, int], dtype, device, operations):
        where = {"dtype": dtype, "device": device, "operations": operations}
        if "text" in contexts:
            super().__init__(width, heads, width // heads, context_dim=contexts["text"], **where)
        else:
            torch.nn.Module.__init__(self)
        for kind in contexts.keys() - {"text"}:
            self.add_module(
                kind, SpatialTransformer(width, heads, width // heads, context_dim=contexts[kind], **where)
            )
        for block in [module for module in self.modules() if isinstance(module, BasicTransformerBlock)]:
            block.attn2 = WeightedAttention(
                width, block.attn2.to_k.in_features, heads, width // heads, **where
            )

    def forward(self, x: Tensor, context: Tensor, transformer_options: dict) -> Tensor:
        layout, ratios, weights = (
            transformer_options[name] for name in ("vd_layout", "vd_ratios", "vd_token_weights")
        )
        text = super().forward
        layers = [
            partial(
                text if part.kind == "text" else self.get_submodule(part.kind),
                context=tokens,
                transformer_options={**transformer_options, "vd_token_weights": own},
            )
            for part, tokens, own in zip(layout, split_tokens(context, layout), weights, strict=True)
        ]
        mixed: Tensor | None = None
        for layer, share in attention_mixing(layers, ratios):
            mixed = add_share(mixed, layer(x), share)
        return cast(Tensor, mixed)


class ImageUNet(UNetModel):
    """Core's UNet with a transformer per context kind at each site."""

    # Core builds it from the config's entries and adds dtype, device and operations.
    def __init__(
        self,
        contexts: dict[str, int],
        schedule: Schedule,
        dtype=None,
        device=None,
        operations=None,
        **unet_config,
    ):
        super().__init__(dtype=dtype, device=device, operations=operations, **unet_config)
        self.contexts, self.schedule = contexts, schedule
        for block in self.modules():
            if isinstance(block, TimestepEmbedSequential):
                for index, layer in enumerate(block):
                    if isinstance(layer, SpatialTransformer):
                        block[index] = ContextTransformers(
                            layer.in_channels, self.num_heads, contexts, dtype, device, operations
                        )

    def forward(
        self,
        x,
        timesteps=None,
        context=None,
        y=None,
        control=None,
        transformer_options=None,
        vd_layout=(),
        vd_token_weights=None,
        **kwargs,
    ):
        check_contexts(vd_layout, context, self.contexts)
        options = {
            **(transformer_options or {}),
            "vd_layout": vd_layout,
            "vd_ratios": compute_shares(vd_layout, self.schedule, x, timesteps, transformer_options),
            "vd_token_weights": split_token_weights(vd_token_weights, vd_layout),
        }
        return super().forward(x, timesteps, context, y, control, options, **kwargs)


class TextDiffuser(Diffuser):
    """vd_core's diffuser for 0D data, called as core calls a UNet. Latents are [B, channels, 1, 1]."""

    # Nodes that patch blocks look for model_channels in the config that core builds this from; what they
    # patch is refused below.
    def __init__(
        self,
        diffuser: DiffuserConfig,
        data: str,
        model_channels: int,
        contexts: dict[str, int],
        schedule: Schedule,
        dtype=None,
        device=None,
        operations=None,
    ):
        layers = ("Linear", "Conv2d", "GroupNorm", "LayerNorm")
        ops = SimpleNamespace(
            **{name: partial(getattr(operations, name), dtype=dtype, device=device) for name in layers}
        )
        super().__init__(diffuser, [data], contexts, ops)
        self.dtype, self.kind, self.contexts, self.schedule = dtype, data, contexts, schedule

    def forward(
        self,
        x,
        timesteps=None,
        context=None,
        y=None,
        control=None,
        transformer_options=None,
        vd_layout=(),
        vd_token_weights=None,
        **kwargs,
    ):
        options = transformer_options or {}
        if options.get("patches") or options.get("patches_replace"):
            raise ValueError(
                "A node before the sampler patches the blocks of a UNet: the text model has none, so connect "
                "it directly."
            )
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self.predict, self, wrappers)
        # As core's UNet; wrappers rely on it.
        return executor.execute(
            x, timesteps, context, y, control, options, vd_layout=vd_layout, vd_token_weights=vd_token_weights
        )

    def predict(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y,
        control,
        transformer_options: dict,
        vd_layout: Layout,
        vd_token_weights: Tensor | None,
    ) -> Tensor:
        """Return the network's output in x's shape."""
        check_contexts(vd_layout, context, self.contexts)
        ratios = compute_shares(vd_layout, self.schedule, x.flatten(1), timesteps, transformer_options)
        if vd_token_weights is not None:
            rows = max(len(context), len(vd_token_weights))
            context, vd_token_weights = (
                part.repeat_interleave(rows // len(part), dim=0) for part in (context, vd_token_weights)
            )
        weights = split_token_weights(vd_token_weights, vd_layout)
        contexts = [
            Context(part.kind, tokens, token_weights=own)
            for part, tokens, own in zip(vd_layout, split_tokens(context, vd_layout), weights, strict=True)
        ]
        return super().forward(x.flatten(1), timesteps, contexts, self.kind, shares=ratios).reshape(x.shape)


class TokensForAll(conds.CONDRegular):
    """Tokens [1 or B, n, …] or their weights for the network of texts, which reads one row for a whole batch
    instead of copies of it."""

    def process_cond(self, batch_size, **kwargs):
        return self if len(self.cond) == 1 else super().process_cond(batch_size, **kwargs)

    def can_concat(self, other):
        return self.cond.shape[1:] == other.cond.shape[1:] and self.cond.device == other.cond.device

    def concat(self, others):
        sides = [side.cond for side in (self, *others)]
        return torch.cat([side.expand(max(map(len, sides)), *side.shape[1:]) for side in sides])


def compute_shares(
    layout: Layout, schedule: Schedule, x: Tensor, timesteps: Tensor, transformer_options: dict | None
) -> list[Share]:
    """Find the share of each context for latents x [evaluations * B, …] at one timestep."""
    ratios, regions = [part.ratio for part in layout], [part.region for part in layout]
    if not any(regions):
        return list(ratios)
    batch = len(x) // len((transformer_options or {}).get("cond_or_uncond", "1"))
    return list(
        compute_local_ratios(ratios, regions, schedule.progress(float(timesteps[0])), batch, x.shape[2:])
    )


def check_contexts(layout: Layout, context: Tensor, contexts: dict[str, int]) -> None:
    """Raise a ValueError that names what of a conditioning does not fit a model that reads `contexts` (kind:
    width)."""
    for part in layout:
        if part.kind not in contexts:
            raise ValueError(
                f"This model was loaded without the layers for {part.kind} contexts: choose “all” as "
                "contexts in its loader."
            )
        if context.shape[2] != contexts[part.kind]:
            raise ValueError(
                f"The {part.kind} context comes from another model: this one reads tokens of width "
                f"{contexts[part.kind]}, got {context.shape[2]}."
            )


class FlowModel(BaseModel):
    """A flow under core's samplers. `vd_config`: the sizes and the schedule of the whole model; `data`: the
    kind of its output."""

    def __init__(self, core_config: SD15, config: VDConfig, data: str, unet_model: type, device=None):
        model_type = {"eps": ModelType.EPS, "v": ModelType.V_PREDICTION}[config.schedule.prediction]
        network = partial(unet_model, contexts=core_config.contexts, schedule=Schedule(config.schedule))
        super().__init__(core_config, model_type, device, network)
        self.vd_config, self.data = config, data

    @property
    def sizes(self) -> DataConfig:
        """The sizes of its latents."""
        return self.vd_config.diffuser.data[self.data]

    def extra_conds(self, **kwargs) -> dict:
        """Collect what goes to the network with each conditioning. Raises ValueError for one that is not
        ours, for latents of another model, and for what only pictures can have."""
        tokens, layout = kwargs.get("cross_attn"), kwargs.get("vd_layout")
        if tokens is None or layout is None:
            raise ValueError(
                "This conditioning does not come from a context node of Versatile Diffusion: positive and "
                "negative both need a Text Context (VD) or an Image Context (VD), directly or through Blend "
                "Contexts (VD)."
            )
        for part, own in zip(layout, split_tokens(tokens, layout), strict=True):
            check_tokens(Context(part.kind, own))
        sizes, latent = self.sizes, kwargs.get("latent_image")
        if latent is not None:
            fit_latent(latent, sizes, self.data)
        used = [name for key, name in FOR_PICTURES.items() if kwargs.get(key) is not None]
        if used and sizes.layers == "0d":
            raise ValueError(
                f"{used[0]} works on pictures only: connect the context to the text model without it."
            )
        if kwargs.get("area") is not None and any(
            part.region and part.region.mask is not None for part in layout
        ):
            raise ValueError(
                "A context with a region cannot get an area too: the region already says where it acts."
            )
        # Core's own class for cross-attention repeats tokens where lengths differ, which would break the
        # layout.
        for_batch = TokensForAll if sizes.layers == "0d" else conds.CONDRegular
        ours = {"c_crossattn": for_batch(tokens), "vd_layout": conds.CONDConstant(layout)}
        if (weights := kwargs.get("vd_token_weights")) is not None:
            ours["vd_token_weights"] = for_batch(weights)
        return {**super().extra_conds(**kwargs), **ours}


def makes_texts(model: ModelPatcher) -> bool:
    """Tell whether a MODEL of any kind is a flow that makes texts."""
    return isinstance(model.model, FlowModel) and model.model.sizes.layers == "0d"


def find_flow(model: ModelPatcher) -> FlowModel:
    """Find the flow behind a MODEL. Raises ValueError for another model."""
    if not isinstance(model.model, FlowModel):
        raise ValueError("model must be a Versatile Diffusion model; others are sampled with KSampler.")
    return model.model
