"""Energies on any MODEL of core's: a wrapper around its prediction, which every sampler and guider calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from comfy.clip_vision import ClipVisionModel
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS
from comfy.patcher_extension import WrappersMP
from comfy.sd import VAE
from torch import Tensor

from ....vd_core.sampling.energy import Energy, steer_eps
from ...latents import refuse_texts
from .clip import find_network
from .models import makes_texts

KEY = "vd_energies"


@dataclass(frozen=True)
class Steering:
    """The wrapper."""

    energies: tuple[Energy, ...]

    def __call__(
        self, executor, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None
    ) -> Tensor:
        model = executor.class_obj.inner_model
        sampling, sigma = model.model_sampling, float(timestep.max())
        progress = 1 - float(sampling.timestep(timestep.max())) / (len(sampling.sigmas) - 1)
        acting = [energy for energy in self.energies if energy.acts(progress)]
        if not acting or sigma == 0:
            return executor(x, timestep, model_options, seed)
        scale = (
            1 + sigma**2
        ) ** 0.5  # core adds noise to data of variance 1; the formulas keep the sum's variance
        options = use_plain_attention(model_options)

        def denoise(x: Tensor) -> Tensor:
            noisy = x * scale
            return (noisy - executor(noisy, timestep, options, seed)) / sigma

        return x - sigma * steer_eps(denoise, x / scale, 1 / scale**2, acting, model.process_latent_out)


def use_plain_attention(model_options: dict) -> dict:
    """Put an attention that has a gradient into the options: not all of core's fast ones have. One that
    another node set stays."""
    options = model_options.get("transformer_options", {})

    def attention(func, *args, **kwargs) -> Tensor:
        return attention_pytorch(*args, **kwargs)

    return {**model_options, "transformer_options": {"optimized_attention_override": attention, **options}}


def steer(model: ModelPatcher, energy: Energy, parts: Sequence[VAE | ClipVisionModel]) -> ModelPatcher:
    """Steer a copy of a MODEL by one more energy. parts: what the energy uses, loaded together with the
    model.

    Raises ValueError for models that do not predict noise or v, for text models, and for vision models that
    are not CLIP's.
    """
    if not isinstance(model.get_model_object("model_sampling"), EPS):
        raise ValueError(
            "Steering needs a model that predicts noise or v, such as Versatile Diffusion or Stable "
            "Diffusion 1 and 2."
        )
    refuse_texts(makes_texts(model), "Steering")
    for part in parts:
        if isinstance(part, ClipVisionModel):
            find_network(part)
    model = model.clone()
    before = model.get_wrappers(WrappersMP.PREDICT_NOISE, KEY)
    model.remove_wrappers_with_key(WrappersMP.PREDICT_NOISE, KEY)
    energies = tuple(energy for steering in before for energy in steering.energies)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, Steering((*energies, energy)))
    loaded = model.get_additional_models_with_key(KEY)
    fresh = [part.patcher for part in parts if not any(part.patcher.is_clone(other) for other in loaded)]
    model.set_additional_models(KEY, [*loaded, *fresh])
    return model


def decode(vae: VAE, latents: Tensor) -> Tensor:
    """Decode unscaled latents [B, C, h, w] to pictures [B, 3, H, W], about 0..1; differentiable. A sampler
    has loaded the VAE."""
    images = vae.first_stage_model.decode(latents.to(device=vae.device, dtype=vae.vae_dtype))
    return (images.float() + 1) / 2
