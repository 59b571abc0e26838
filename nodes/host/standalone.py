"""The host without ComfyUI: everything runs on vd_core, on the CPU, and a part of a model is read when it is first used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ...vd_core.checkpoints.load import load, open_checkpoints
from ...vd_core.checkpoints.published import find_model
from ...vd_core.config import VDConfig
from ...vd_core.context import Blend
from ...vd_core.embedded import MODEL
from ...vd_core.flows import VersatileDiffusion
from ...vd_core.sampling.noise import batch_noise, sample_noise

EMBEDDED = "embedded"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


@dataclass(eq=False)
class ModelFile:
    """A model file, and the parts of it that were read so far."""

    path: Path
    loaded: dict[str, VersatileDiffusion] = field(default_factory=dict)

    @property
    def config(self) -> VDConfig:
        """Its sizes; no weights are read."""
        return open_checkpoints(self.path)[1]

    def part(self, name: str) -> VersatileDiffusion:
        """The model with one part, read once."""
        if name not in self.loaded:
            self.loaded[name] = load(self.path, parts={name}, vocabularies=self.path.parent)
        return self.loaded[name]

    def flows(self, data: str, kinds: Iterable[str]) -> VersatileDiffusion:
        """The model with what samples `data` under contexts of these kinds; flows share the layers that they have in common."""
        model = self.part("diffuser.time_embed")
        model.diffuser.data[data] = self.part(f"diffuser.data.{data}").diffuser.data[data]
        for kind in kinds:
            model.diffuser.context[kind] = self.part(f"diffuser.context.{kind}").diffuser.context[kind]
        return model


@dataclass(eq=False)
class Flow:
    """A MODEL: the flows that give one kind of output."""

    file: ModelFile
    data: str


@dataclass(eq=False)
class Clip:
    """A CLIP or CLIP_VISION: one of CLIP's towers."""

    file: ModelFile
    part: str


@dataclass(eq=False)
class ImageVAE:
    """A VAE, with the two methods that core's nodes call."""

    file: ModelFile

    def encode(self, pixels: Tensor) -> Tensor:
        """IMAGE [B, H, W, 3] -> latents [B, C, h, w], unscaled."""
        return self.file.part("image_vae").image_vae.encode(pixels[..., :3].movedim(-1, 1))

    def decode(self, samples: Tensor) -> Tensor:
        """Latents [B, C, h, w], unscaled -> IMAGE [B, H, W, 3]."""
        return self.file.part("image_vae").image_vae.decode(samples).movedim(1, -1)


@dataclass(eq=False)
class TextVAE:
    """A VD_TEXT_VAE: Optimus."""

    file: ModelFile


def folder() -> Path:
    """Where model files are looked for: $VD_MODELS, else `models` in the working folder."""
    return Path(os.environ.get("VD_MODELS", "models"))


def model_names() -> list[str]:
    """What can be loaded: the embedded model first, then the files of the models folder."""
    files = folder().rglob("*") if folder().is_dir() else []
    return [EMBEDDED, *sorted(str(path.relative_to(folder())) for path in files if path.suffix in SUFFIXES)]


def load_model(name: str) -> tuple[Flow, Flow, Clip, Clip, ImageVAE, TextVAE]:
    """The parts of a model as they go to the sockets. Raises FileNotFoundError with what was searched for where."""
    file = ModelFile(find_model(MODEL.name, [MODEL.parent]) if name == EMBEDDED else find_model(name, [folder()]))
    return Flow(file, "image"), Flow(file, "text"), Clip(file, "clip_text"), Clip(file, "clip_vision"), ImageVAE(file), TextVAE(file)


def encode_text(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Prompts -> tokens [B, n, d]."""
    return clip.file.part(clip.part).clip.encode_text(texts)


def encode_image(clip_vision: Clip, images: Tensor, masks: Tensor | None) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1, masks [B, 1, H, W] (1 = keep) -> tokens [B, n, d]."""
    return clip_vision.file.part(clip_vision.part).clip.encode_image(images, masks)


def sample(
    model: Flow,
    contexts: Blend,
    latent: Tensor,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    eta: float,
    fidelity: float,
    official_noise: bool,
) -> Tensor:
    """Latents in the shape of `latent`: [B, C, h, w] for pictures, [B, width, 1, 1] for texts."""
    sizes = model.file.config.diffuser.data[model.data]
    latent = fit_latent(latent, sizes.channels, sizes.layers == "0d", model.data)
    # The official app seeds with its seed + 100, after the contexts are made.
    noise = batch_noise(seed + 100) if official_noise else sample_noise(seed)
    with progress("sampling") as report:
        samples = model.file.flows(model.data, {context.kind for context in contexts}).sample(
            model.data,
            contexts,
            latent.flatten(1) if sizes.layers == "0d" else latent,
            noise,
            fidelity=fidelity,
            sampler=sampler,
            steps=steps,
            cfg=cfg,
            eta=eta,
            callback=lambda i, total, x, x0: report(i + 1, total),
        )
    return samples.reshape(latent.shape)


def fit_latent(latent: Tensor, channels: int, is_text: bool, data: str) -> Tensor:
    """Check that a latent is one of this flow. An empty one is widened to the model's channels, as ComfyUI does it."""
    if 0 in latent.shape:
        raise ValueError("latent_image is an empty batch: there is nothing to sample.")
    if is_text != (latent.ndim == 4 and latent.shape[2:] == (1, 1)):
        wanted = "an Empty Text Latent (VD) or Text to Latent (VD)" if is_text else "an Empty Latent Image or VAE Encode"
        raise ValueError(f"latent_image does not fit: the {data} model needs {wanted}, got a latent {list(latent.shape)}.")
    if latent.shape[1] == channels:
        return latent
    if latent.count_nonzero() == 0:
        return latent.new_zeros(latent.shape[0], channels, *latent.shape[2:])
    raise ValueError(f"latent_image has {latent.shape[1]} channels where the {data} model has {channels}: it comes from another model.")


def text_width(text_vae: TextVAE) -> int:
    """The width of a text latent."""
    return text_vae.file.config.text_vae.latent_width


def encode_sentences(text_vae: TextVAE, texts: Sequence[str]) -> Tensor:
    """Sentences -> latents [B, width]."""
    return text_vae.file.part("text_vae").text_vae.encode(texts)


def decode_sentences(text_vae: TextVAE, latents: Tensor, seed: int, temperature: float, top_k: int, top_p: float) -> list[str]:
    """Latents [B, width] -> sentences, each drawn from a stream of its own."""
    noise = sample_noise(seed)
    noise.draw((len(latents), 1))
    with progress("writing") as report:
        return text_vae.file.part("text_vae").text_vae.decode(latents, noise.generators, temperature, top_k, top_p, report)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on the terminal: call what it gives with (done, total). It appears with the first call and is wiped off at the
    end, after an error too, so that no sentence stands on its line."""
    bar = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=title, total=total, leave=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
