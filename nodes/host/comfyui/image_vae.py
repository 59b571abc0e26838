"""What core's VAE does not offer: a draw from its posterior."""

from __future__ import annotations

from comfy import model_management
from comfy.ldm.models.autoencoder import AutoencodingEngineLegacy
from comfy.ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from comfy.sd import VAE
from torch import Tensor

from ....vd_core.sampling.noise import BatchNoise


def encode_sample(vae: VAE, pixels: Tensor, noise: BatchNoise) -> Tensor:
    """Encode IMAGE [B, H, W, 3] as latents [B, C, h, w], unscaled, drawn from what the autoencoder takes them
    for (its posterior).

    Raises ValueError for an autoencoder of another kind than Stable Diffusion 1's.
    """
    model = vae.first_stage_model
    if not isinstance(model, AutoencodingEngineLegacy):
        raise ValueError(
            "vae must be the one of Load Image Model (VD), or a VAE of Stable Diffusion 1: others give no "
            "posterior."
        )
    images = vae.vae_encode_crop_pixels(pixels).movedim(-1, 1)
    model_management.load_models_gpu(
        [vae.patcher], memory_required=vae.memory_used_encode(images.shape, vae.vae_dtype)
    )
    images = vae.process_input(images).to(vae.device, vae.vae_dtype)
    posterior = DiagonalGaussianDistribution(model.quant_conv(model.encoder(images)).float())
    draw = noise.draw(posterior.mean.shape).to(posterior.mean)
    return (posterior.mean + posterior.std * draw).to(vae.output_device)
