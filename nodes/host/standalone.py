"""The host without ComfyUI: everything runs on vd_core, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ...seecoder.embedded import MODEL as EMBEDDED_SEECODER
from ...vd_core.checkpoints.published import find_model
from ...vd_core.config import VDConfig
from ...vd_core.diffuser.layer_names import name_layers
from ...vd_core.diffuser.model import Diffuser
from ...vd_core.diffuser.precision import find_fastest_dtype
from ...vd_core.embedded import LORAS, MODEL
from ...vd_core.encoders.clip import Clip
from ...vd_core.files import resolve_inside
from ...vd_core.finite import check_samples
from ...vd_core.sampling.corrections import PLAIN, GuidanceOptions
from ...vd_core.sampling.energy import Energy
from ...vd_core.sampling.low_pass import LowPassGuidance
from ...vd_core.sampling.noise import BatchNoise
from ...vd_core.sampling.options import Sampling
from ...vd_core.sampling.schedule import Schedule
from ...vd_core.tokenizers import ClipTokenizer
from ..advice import advise_settings
from ..choices import EMBEDDED, EXAMPLES, WEIGHT_DTYPES
from ..conditioning import Conditioning, to_contexts
from ..latents import (
    fit_mask,
    fit_start,
    make_latent,
    make_sampler_noise,
    make_shift,
    read_samples,
    refuse_texts,
)
from .flow import Flow, Layers, read_part
from .parts import ImageVAE, SeeCoderEncoder, TextVAE
from .terminal import show_progress, tell

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def register() -> None:
    """Do nothing: `list_folders` are searched here, so no program needs to know them."""


def find_model_folder() -> Path:
    """Return where model files of every role lie: $VD_MODELS, else `models` in the working folder."""
    return Path(os.environ.get("VD_MODELS", "models"))


def list_folders(role: str) -> list[Path]:
    """List where files of a role are looked for: contexts and LoRAs also in folders that come with the pack,
    contexts first in the folder that the runner's --input names, $VD_INPUT."""
    inputs = [Path(os.environ["VD_INPUT"])] if role == "context" and "VD_INPUT" in os.environ else []
    own = {"context": [EXAMPLES], "lora": [find_model_folder() / "loras", LORAS]}
    return [*inputs, find_model_folder(), *own.get(role, [])]


def file_names(role: str) -> list[str]:
    """Return the files that may be of a role."""
    endings = (*SUFFIXES, ".npy") if role == "context" else SUFFIXES
    inputs = Path(os.environ["VD_INPUT"]) if "VD_INPUT" in os.environ else None  # may be a whole home folder
    found = {
        str(path.relative_to(place))
        for place in list_folders(role)
        for path in (place.glob("*") if place == inputs else place.rglob("*"))
        if path.suffix in endings
    }
    return sorted(found)


def diffuser_names() -> list[str]:
    """List the files that may hold Versatile Diffusion's diffuser."""
    from ...vd_core.checkpoints.companions import may_hold_diffuser

    return [name for name in file_names("model") if may_hold_diffuser(find_model_folder() / name)]


def find(name: str, role: str) -> Path:
    """Return the path of a file. Raises FileNotFoundError with what was searched for where."""
    if name == EMBEDDED:
        return EMBEDDED_SEECODER if role == "seecoder" else MODEL
    return find_model(name, list_folders(role))


def output_place(prefix: str, directory: str | None) -> tuple[Path, str]:
    """Return the folder for a file, and the start of its name. Raises ValueError for a prefix that leaves the
    output folder, and without a folder."""
    if directory is None:
        raise ValueError("There is no folder to write to: give output_directory.")
    return resolve_inside(Path(directory), prefix, "filename_prefix")


def find_part(model: Path, part: str, role: str) -> Path:
    """Find the file of a part of a model: its own, else the published one. Raises FileNotFoundError as
    `companions.find_part` does."""
    from ...vd_core.checkpoints import companions

    return companions.find_part(model, part, list_folders(role))


def load_flow(path: Path, data: str, contexts: str, dtype: str) -> Flow:
    """Load the flows that make `data` as a MODEL. Layers are read when a sample needs them, so `contexts`
    leaves nothing to do."""
    from ...vd_core.checkpoints.load import choose, open_checkpoints

    if dtype.startswith("fp8"):
        raise ValueError(
            f"weight_dtype {dtype} needs ComfyUI: choose default (float32), auto (what this processor is "
            "fastest with) or bf16."
        )
    checkpoints, config = open_checkpoints(path)
    choose(checkpoints, config, [f"diffuser.data.{data}"])
    return Flow(
        config,
        Layers(
            path,
            data,
            find_fastest_dtype() if dtype == "auto" else getattr(torch, WEIGHT_DTYPES[dtype] or "float32"),
        ),
    )


def load_clip(path: Path) -> Clip:
    """Return the text tower of a file as a CLIP."""
    return read_part(path, "clip_text").clip


def load_clip_vision(path: Path) -> Clip:
    """Return the vision tower of a file as a CLIP_VISION."""
    return read_part(path, "clip_vision").clip


def load_image_vae(path: Path) -> ImageVAE:
    """Return the image autoencoder of a file as a VAE."""
    return ImageVAE(read_part(path, "image_vae").image_vae)


def load_text_vae(path: Path) -> TextVAE:
    """Return the text autoencoder of a file."""
    return TextVAE(read_part(path, "text_vae").text_vae)


def load_seecoder(path: Path) -> SeeCoderEncoder:
    """Return a SeeCoder of any kind."""
    from ...seecoder.checkpoints import from_tensors
    from ...vd_core.checkpoints.read import read as read_file

    return SeeCoderEncoder(from_tensors(read_file(path).weights, str(path)))


def load_pfd(path: Path) -> None:
    """Refuse: Stable Diffusion 1 is run by ComfyUI alone."""
    raise ValueError(
        "A model of Stable Diffusion 1 needs ComfyUI; here SeeCoder conditions Versatile Diffusion."
    )


def load_lora(model: Flow, clip: Clip | None, path: Path, strength: float) -> tuple[Flow, Clip | None]:
    """Add a LoRA file, `strength` times, to copies of a MODEL and of a CLIP."""
    from ...vd_core.checkpoints.lora import read_lora
    from ...vd_core.checkpoints.lora_changes import merge_changes, name_adaptable

    with torch.device("meta"):  # the layers' names and sizes
        diffuser = Diffuser(model.config.diffuser, [model.data])
    changes = read_lora(path, diffuser, None if clip is None else clip.text_tower)
    if clip is not None:
        clip = deepcopy(clip)
        merge_changes(name_adaptable(None, clip.text_tower), changes, strength)
    return model.add_lora(changes, strength), clip


def check_width(model: Flow, width: int) -> None:
    """Raise a ValueError unless a MODEL reads text tokens of that width."""
    wanted = model.config.diffuser.context.get("text")
    if wanted != width:
        raise ValueError(
            f"SeeCoder's tokens are {width} wide, but this model reads {wanted or 'none'}: they come from "
            "different models."
        )


def get_tokenizer(clip: Clip) -> ClipTokenizer:
    """Return the tokenizer that the loaders give a CLIP with a text tower."""
    return cast(ClipTokenizer, clip.tokenizer)


def encode_text(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Encode prompts, which may hold weights, as tokens [B, n, d], as if they held none."""
    return clip.encode_ids(get_tokenizer(clip).encode_weighted(texts)[0])


def weigh_tokens(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Return the weight of each token of prompts, [B, n]."""
    return get_tokenizer(clip).encode_weighted(texts)[1]


def count_tokens(clip: Clip, word: str) -> int:
    """Count the tokens that a word takes."""
    return len(get_tokenizer(clip).bpe.encode(word))


def embed_text(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Embed texts globally: [B, d], of norm 1; those of pictures are the first tokens of `encode_image`."""
    return clip.embed_text(texts)


def conditioning_options(clip: Clip, texts: Sequence[str]) -> tuple[dict, ...]:
    """Return nothing for each prompt: there are no ControlNets and no hooks here."""
    return tuple({} for _ in texts)


def encode_image(clip_vision: Clip, images: Tensor, masks: Tensor | None) -> Tensor:
    """Encode pictures [B, 3, H, W] in 0..1 under masks [B, 1, H, W] (1 = keep) as tokens [B, n, d]."""
    return clip_vision.encode_image(images, masks)


def doubt_below(clip_vision: Clip) -> float:
    """Return the cosine of a picture and a caption below which the caption is in doubt; -1: unknown."""
    return clip_vision.config.doubt_below


def encode_sample(vae: ImageVAE, pixels: Tensor, noise: BatchNoise) -> Tensor:
    """Draw unscaled latents [B, C, h, w] from the autoencoder's posterior of an IMAGE [B, H, W, 3]."""
    images, config, factor = pixels.movedim(-1, 1), vae.autoencoder.config, vae.autoencoder.factor
    height, width = (side // factor for side in images.shape[2:])
    return vae.autoencoder.encode(images, noise.draw((len(images), config.latent_channels, height, width)))


def schedule_of(model: Flow) -> Schedule:
    """Return the schedule of a MODEL, with its shift."""
    return Schedule(model.config.schedule, model.shift)


def config(model: Flow) -> VDConfig:
    """Return the sizes and the schedule of the model behind a MODEL."""
    return model.config


def embed_image(clip_vision: Clip, images: Tensor) -> Tensor:
    """Embed pictures [B, 3, H, W], about 0..1, globally: [B, d], of norm 1; differentiable."""
    return clip_vision.embed_image(images)


def decode(vae: ImageVAE, latents: Tensor) -> Tensor:
    """Decode unscaled latents [B, C, h, w] to pictures [B, 3, H, W], about 0..1; differentiable."""
    return vae.autoencoder.decode_unclamped(latents)


def steer(model: Flow, energy: Energy, parts: Sequence[object]) -> Flow:
    """Steer a copy of a MODEL by one more energy. parts: the models that the energy uses. Raises ValueError
    for texts."""
    refuse_texts(model.sizes.layers == "0d", "Steering")
    return replace(model, energies=(*model.energies, energy))


def sample(
    model: Flow,
    positive: Conditioning,
    negative: Conditioning,
    latent: dict,
    seed: int,
    sampling: Sampling,
    start_noise: dict | None = None,
) -> dict:
    """Make a LATENT of the shape of the given one: [B, C, h, w] for pictures, [B, width, 1, 1] for texts."""
    contexts = to_contexts(positive, negative)
    samples = model.fit(read_samples(latent))
    start, mask = fit_start(start_noise, samples, sampling.steps), latent.get("noise_mask")
    tell(
        advise_settings(
            model.config, model.data, samples.shape, sampling.cfg if model.guidance == PLAIN else None
        )
    )
    vd, noise = model.load_for(contexts), make_sampler_noise(sampling, seed, latent)
    run = partial(
        vd.sample,
        model.data,
        contexts,
        model.flatten_texts(samples),
        sampling=model.complete(sampling),
        mask=None if mask is None else model.flatten_texts(fit_mask(mask, samples)),
        start=None if start is None else model.flatten_texts(start),
    )
    with show_progress("sampling") as report:
        result = run(noise=noise, callback=lambda i, total, x, x0: report(i + 1, total))
    tokens = [side for context in contexts for side in (context.tokens, context.unconditional)]
    again = partial(run, noise=make_sampler_noise(sampling, seed, latent))
    check_samples(result, again, name_layers(vd.diffuser, model.data), samples, *tokens)
    return make_latent(latent, result.reshape(samples.shape), noise)


def invert(
    model: Flow, positive: Conditioning, negative: Conditioning, latent: dict, sampling: Sampling
) -> Tensor:
    """Return the start_noise of `sample` that leads back to `latent["samples"]`, in its shape."""
    contexts = to_contexts(positive, negative)
    samples = model.fit(read_samples(latent))
    with show_progress("inverting") as report:
        result = model.load_for(contexts).invert(
            model.data,
            contexts,
            model.flatten_texts(samples),
            model.complete(sampling),
            callback=lambda i, total, x, x0: report(i + 1, total),
        )
    return result.reshape(samples.shape)


def with_guidance(model: Flow, guidance: GuidanceOptions) -> Flow:
    """Return a MODEL that is guided with these options. The last ones set count."""
    return replace(model, guidance=guidance)


def shift_resolution(model: Flow, latent: dict, trained_side: int, noisy: float, clean: float) -> Flow:
    """Return the MODEL with its noise shifted for latents of that size. Raises ValueError for texts."""
    return replace(model, shift=make_shift(model.sizes, latent, trained_side, noisy, clean))


def guide_low_pass(model: Flow, guidance: LowPassGuidance) -> Flow:
    """Let a MODEL keep the large shapes of a source. The last one set counts. Raises ValueError for texts."""
    refuse_texts(model.sizes.layers == "0d", "Low-Pass Guidance (VD)")
    return replace(model, low_pass=guidance)


def official_ddim(model: Flow, steps: int, eta: float) -> tuple[object, Tensor]:
    """Raise ValueError: only ComfyUI uses a SAMPLER and SIGMAS."""
    raise ValueError(
        "Official DDIM (VD) feeds ComfyUI's SamplerCustom; without ComfyUI use Multi-Flow Sampler (VD)."
    )
