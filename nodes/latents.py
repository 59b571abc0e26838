"""What LATENTs hold: which fit which flow, and which noise they were made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Generator, Tensor

from ..vd_core.config import DataConfig
from ..vd_core.sampling.noise import BatchNoise, NoiseSource, batch_noise, make_noise, sample_noise
from ..vd_core.sampling.options import Sampling
from ..vd_core.sampling.shift import ResolutionShift

NOISES = ("per sample", "official")
Generators = Generator | Sequence[Generator]
DRAWN = "vd_drawn"  # in a LATENT: the shapes of the official draws that it was made from
STEPS = "vd_steps"  # in a LATENT that Invert Latent (VD) made: in how many steps


def make_official_noise(seed: int, latent: dict) -> BatchNoise:
    """Make the noise of the official app, behind the draws that a LATENT was made from.

    The app seeds with its seed + 100, once, after the contexts are made: encoding, sampling and writing draw
    from one stream.
    """
    noise = batch_noise(seed + 100)
    for shape in latent.get(DRAWN, ()):
        noise.draw(shape)
    return noise


def read_rows(latent: dict) -> list[int] | None:
    """Read which samples of a batch a LATENT holds; None for a whole batch.

    Core's Latent From Batch and Latent Batch Seed Behavior note it. Raises ValueError for a note that does
    not fit.
    """
    rows = latent.get("batch_index")
    if rows is None:
        return None
    if len(rows) != len(latent["samples"]) or min(rows) < 0:
        raise ValueError(
            f"latent_image holds {len(latent['samples'])} samples, but its batch_index {list(rows)} is for "
            "others: a node between changed one of the two; wire the latent without it."
        )
    return None if list(rows) == list(range(len(rows))) else [int(row) for row in rows]


def make_sampler_noise(sampling: Sampling, seed: int, latent: dict) -> NoiseSource:
    """Make the noise of a sampler from a seed, for the samples of a batch that a LATENT holds.

    Raises ValueError where the official noise would need the rest of the batch.
    """
    rows = read_rows(latent)
    if sampling.noise != "official":
        return make_noise(seed, sampling.noise, rows)
    if rows is not None and len(set(rows)) <= max(rows) and sampling.draws_noise:
        raise ValueError(
            f"The official noise of sample {', '.join(map(str, rows))} of a batch cannot be drawn without "
            "the others, because they share one stream of numbers: choose noise “per sample”, or ddim with "
            "eta 0."
        )
    noise = make_official_noise(seed, latent)
    noise.rows = rows
    return noise


def make_word_generators(seed: int, latent: dict, official: bool) -> Generators:
    """Make the random streams of words: one for all sentences as in the official app, or one for each."""
    if official:
        return make_official_noise(seed, latent).generator
    noise = sample_noise(seed, read_rows(latent))
    noise.draw((len(latent["samples"]), 1))
    return noise.generators


def make_latent(latent: dict, samples: Tensor, noise: NoiseSource) -> dict:
    """Make the LATENT that a sampler returns for a given one and its noise."""
    return {**latent, "samples": samples, DRAWN: noise.drawn if isinstance(noise, BatchNoise) else ()}


def read_samples(latent: dict, name: str = "latent_image") -> Tensor:
    """Return the samples of a LATENT, [B, C, h, w] for pictures or [B, C, 1, 1] for texts.

    Raises ValueError, with what the input is called, for anything else, such as latents of videos.
    """
    samples = latent.get("samples")
    if not isinstance(samples, Tensor) or samples.ndim != 4 or not samples.is_floating_point():
        got = f"{list(samples.shape)} {samples.dtype}" if isinstance(samples, Tensor) else f"{samples!r:.40}"
        raise ValueError(
            f"{name} must hold latents [batch, channels, height, width] of fractions, got {got}."
        )
    return samples


def fit_latent(samples: Tensor, sizes: DataConfig, data: str) -> Tensor:
    """Return latents [B, C, h, w] for pictures or [B, C, 1, 1] for texts, if they fit a flow.

    Empty ones are widened to the model's channels, as in ComfyUI. Raises ValueError with what to wire
    instead.
    """
    if 0 in samples.shape:
        raise ValueError("latent_image is an empty batch: there is nothing to sample.")
    is_text = sizes.layers == "0d"
    if samples.ndim != 4 or is_text != (samples.shape[2:] == (1, 1)):
        wanted = (
            "an Empty Text Latent (VD) or Text to Latent (VD)"
            if is_text
            else "an Empty Latent Image or VAE Encode"
        )
        raise ValueError(
            f"latent_image does not fit: the {data} model needs {wanted}, got a latent {list(samples.shape)}."
        )
    if samples.shape[1] == sizes.channels:
        return samples
    if samples.count_nonzero() == 0:
        return samples.new_zeros(samples.shape[0], sizes.channels, *samples.shape[2:])
    raise ValueError(
        f"latent_image has {samples.shape[1]} channels where the {data} model has {sizes.channels}: it comes "
        "from another model."
    )


def fit_mask(mask: Tensor, samples: Tensor) -> Tensor:
    """Resize and repeat a noise_mask [B, …, H, W] as ComfyUI does, to [B, 1, h, w] for latents [B, C, h, w].

    Its values are 0..1, 1 = to sample.
    """
    if not isinstance(mask, Tensor) or mask.ndim < 2 or 0 in mask.shape:
        raise ValueError(
            "noise_mask must hold masks [batch, height, width]: Set Latent Noise Mask makes one."
        )
    mask = F.interpolate(
        mask.reshape(-1, 1, *mask.shape[-2:]).float(), size=samples.shape[2:], mode="bilinear"
    )
    return mask.repeat(-(-len(samples) // len(mask)), 1, 1, 1)[: len(samples)]


def share_steps(first: dict, second: dict) -> dict:
    """Return the steps of Invert Latent (VD) that two LATENTs share. Raises ValueError where they differ."""
    steps = first.get(STEPS), second.get(STEPS)
    if steps[0] != steps[1]:
        raise ValueError(
            f"One latent was inverted in {steps[0]} steps, the other in {steps[1]}: invert both in the same "
            "number of steps."
        )
    return {} if steps[0] is None else {STEPS: steps[0]}


def refuse_texts(makes_texts: bool, what: str) -> None:
    """Raise ValueError where a model makes texts. what: what works on pictures only."""
    if makes_texts:
        raise ValueError(f"{what} works on pictures only: connect image_model.")


def make_shift(
    sizes: DataConfig, latent: dict, trained_side: int, noisy: float, clean: float
) -> ResolutionShift:
    """Return the shift of a model with latents of these sizes for a LATENT [B, C, h, w].

    Raises ValueError for texts and other shapes.
    """
    refuse_texts(sizes.layers == "0d", "Resolution Shift (VD)")
    height, width = read_samples(latent).shape[2:]
    return ResolutionShift.of_size(height, width, trained_side or sizes.side, noisy, clean)


def fit_start(noise: dict | None, samples: Tensor, steps: int) -> Tensor | None:
    """Return the latent of Invert Latent (VD) to start from, for latents [B, C, h, w]: one for all, or each.

    Raises ValueError with what to wire instead.
    """
    if noise is None:
        return None
    start, made_in = read_samples(noise, "start_noise"), noise.get(STEPS, steps)
    if made_in != steps:
        raise ValueError(
            f"start_noise was made by Invert Latent (VD) in {made_in} steps, the sampler has {steps}: let "
            "both have the same."
        )
    if start.shape[1:] != samples.shape[1:] or len(start) not in (1, len(samples)):
        raise ValueError(
            f"start_noise {list(start.shape)} does not fit latent_image {list(samples.shape)}: invert a "
            "latent of its size."
        )
    return start.expand_as(samples)
