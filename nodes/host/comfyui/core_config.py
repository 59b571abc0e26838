"""What core wants to know of a flow before it builds it: sizes, latents and schedule, in core's own terms."""

from __future__ import annotations

from comfy.latent_formats import SD15 as SD15Latent
from comfy.latent_formats import LatentFormat
from comfy.supported_models import SD15

from ....vd_core.config import DataConfig, DiffuserConfig, VDConfig

SD_SCALE = 0.18215  # latents scaled by it are Stable Diffusion's, whose colours core can preview


class ScaledLatent(LatentFormat):
    """Latents that are not Stable Diffusion's."""

    def __init__(self, sizes: DataConfig):
        self.latent_channels, self.scale_factor = sizes.channels, sizes.latent_scale
        if sizes.preview:
            *self.latent_rgb_factors, self.latent_rgb_factors_bias = map(list, sizes.preview)


def core_config(config: VDConfig, data: str, contexts: dict[str, int]) -> SD15:
    """Return what core wants to know of a flow before it builds it."""
    sizes, schedule = config.diffuser.data[data], config.schedule
    is_text = sizes.layers == "0d"
    model = SD15({})
    model.contexts = contexts
    model.unet_config = (
        text_entries(config.diffuser, data) if is_text else unet_entries(config.diffuser, sizes, contexts)
    )
    is_sd = sizes.channels == 4 and sizes.latent_scale == SD_SCALE
    model.latent_format = SD15Latent() if is_sd else ScaledLatent(sizes)
    model.sampling_settings = {
        "linear_start": schedule.beta_start,
        "linear_end": schedule.beta_end,
        "timesteps": schedule.timesteps,
    }
    return model


def text_entries(diffuser: DiffuserConfig, data: str) -> dict:
    """Return what core builds the diffuser of texts from."""
    return {"diffuser": diffuser, "data": data, "model_channels": diffuser.model_channels}


def unet_entries(diffuser: DiffuserConfig, sizes: DataConfig, contexts: dict[str, int]) -> dict:
    """Return the sizes as core's UNet takes them; its LoRA key maps and control-LoRAs read them too."""
    levels = list(zip(diffuser.num_res_blocks, diffuser.attention, strict=True))
    return {
        "image_size": 32,
        "in_channels": sizes.channels,
        "out_channels": sizes.channels,
        "model_channels": diffuser.model_channels,
        "num_res_blocks": list(diffuser.num_res_blocks),
        "channel_mult": diffuser.channel_mult,
        "num_heads": diffuser.num_heads,
        "context_dim": max(contexts.values()),
        "use_spatial_transformer": True,
        "legacy": False,
        "transformer_depth": [int(attention) for blocks, attention in levels for _ in range(blocks)],
        "transformer_depth_output": [
            int(attention) for blocks, attention in levels for _ in range(blocks + 1)
        ],
        "transformer_depth_middle": 1,
    }
