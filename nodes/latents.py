"""What LATENTs hold: which fit which flow, and which noise they were made from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor

from ..vd_core.config import DataConfig
from ..vd_core.sampling.noise import BatchNoise, SampleNoise, batch_noise, sample_noise, shared_noise

NOISES = ("per sample", "official")
SAMPLER_NOISES = (*NOISES, "shared")
Generators = Generator | Sequence[Generator]
DRAWN = "vd_drawn"  # in a LATENT: the shapes of the official draws that it was made from


def official_noise(seed: int, latent: dict) -> BatchNoise:
    """The noise of the official app, which seeds with its seed + 100 after the contexts are made, and only then: encoding, sampling and
    writing draw from one stream. So this one goes on behind the draws that a LATENT was made from."""
    return batch_noise(seed + 100, latent.get(DRAWN, ()))


def sampler_noise(kind: str, seed: int, latent: dict) -> BatchNoise | SampleNoise:
    """The noise of a sampler; kind: one of `SAMPLER_NOISES`."""
    if kind == "official":
        return official_noise(seed, latent)
    return shared_noise(seed) if kind == "shared" else sample_noise(seed)


def word_generators(seed: int, latent: dict, official: bool) -> Generators:
    """What words are drawn from: one stream for all sentences as in the official app, or one for each."""
    if official:
        return official_noise(seed, latent).generator
    noise = sample_noise(seed)
    noise.draw((len(latent["samples"]), 1))
    return noise.generators


def made(latent: dict, samples: Tensor, noise: BatchNoise | SampleNoise) -> dict:
    """The LATENT that was made of another one with this noise."""
    return {**latent, "samples": samples, DRAWN: noise.drawn if isinstance(noise, BatchNoise) else ()}


def fit_latent(latent: Tensor, sizes: DataConfig, data: str) -> Tensor:
    """Check that a latent, [B, C, h, w] for pictures or [B, C, 1, 1] for texts, is one of this flow. An empty one is widened to the
    model's channels, as ComfyUI does it. Raises ValueError with what to wire instead."""
    if 0 in latent.shape:
        raise ValueError("latent_image is an empty batch: there is nothing to sample.")
    is_text = sizes.layers == "0d"
    if is_text != (latent.ndim == 4 and latent.shape[2:] == (1, 1)):
        wanted = "an Empty Text Latent (VD) or Text to Latent (VD)" if is_text else "an Empty Latent Image or VAE Encode"
        raise ValueError(f"latent_image does not fit: the {data} model needs {wanted}, got a latent {list(latent.shape)}.")
    if latent.shape[1] == sizes.channels:
        return latent
    if latent.count_nonzero() == 0:
        return latent.new_zeros(latent.shape[0], sizes.channels, *latent.shape[2:])
    raise ValueError(
        f"latent_image has {latent.shape[1]} channels where the {data} model has {sizes.channels}: it comes from another model."
    )
