"""What the nodes ask of the program in which they run. Both hosts, inside ComfyUI and without it, are such
modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ...vd_core.config import VDConfig
from ...vd_core.sampling.corrections import GuidanceOptions
from ...vd_core.sampling.energy import Energy
from ...vd_core.sampling.low_pass import LowPassGuidance
from ...vd_core.sampling.noise import BatchNoise
from ...vd_core.sampling.options import Sampling
from ...vd_core.sampling.schedule import Schedule
from ..conditioning import Conditioning
from ..latents import Generators

# What travels on wires between nodes. Inside ComfyUI these are core's own objects.
Model = Any
Clip = Any
ClipVision = Any
VAE = Any


class TextVAE(Protocol):
    """A VD_TEXT_VAE."""

    @property
    def width(self) -> int:
        """The width of a text latent."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode sentences as latents [B, width]."""

    def decode(
        self, latents: Tensor, generators: Generators, temperature: float, top_k: int, top_p: float
    ) -> list[str]:
        """Decode latents [B, width] into sentences; generators: as `Optimus.decode` takes them."""


class SeeCoderEncoder(Protocol):
    """A SEECODER."""

    @property
    def global_tokens(self) -> int:
        """How many tokens stand for the picture as a whole; they come first."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode pictures [B, 3, H, W] in 0..1 as tokens [B, n, d]."""


class Host(Protocol):
    """The functions of a host. Each raises ValueError with one sentence for what it cannot do."""

    def tell(self, sentence: str) -> None:
        """Show a sentence to the user and log it, without stopping; "" says nothing."""

    # Files

    def register(self) -> None:
        """Tell the program of our folders and types. Without ComfyUI there is none to tell."""

    def file_names(self, role: str) -> list[str]:
        """List the files that may be of a role."""

    def diffuser_names(self) -> list[str]:
        """List the files that may hold Versatile Diffusion's diffuser."""

    def find(self, name: str, role: str) -> Path:
        """Find a file. Raises FileNotFoundError that says what was searched for where."""

    def find_part(self, model: Path, part: str, role: str) -> Path:
        """Find the file of a part of a model. Raises FileNotFoundError that says what was searched for
        where."""

    def output_place(self, prefix: str, directory: str | None) -> tuple[Path, str]:
        """Return the folder for a file, and the start of its name. Raises ValueError for a prefix that leaves
        it."""

    # Loading

    def load_flow(self, path: Path, data: str, contexts: str, dtype: str) -> Model:
        """Load the flows that make `data` under one kind of contexts, or "all", as a MODEL."""

    def load_clip(self, path: Path) -> Clip:
        """Load the text tower of a file as a CLIP."""

    def load_clip_vision(self, path: Path) -> ClipVision:
        """Load the vision tower of a file as a CLIP_VISION."""

    def load_image_vae(self, path: Path) -> VAE:
        """Load the image autoencoder of a file as a VAE."""

    def load_text_vae(self, path: Path) -> TextVAE:
        """Load the text autoencoder of a file."""

    def load_seecoder(self, path: Path) -> SeeCoderEncoder:
        """Load a SeeCoder of any kind."""

    def load_pfd(self, path: Path) -> Model:
        """Load the diffuser of Prompt-Free Diffusion as a MODEL of Stable Diffusion 1, which ComfyUI alone
        can run."""

    def load_lora(
        self, model: Model, clip: Clip | None, path: Path, strength: float
    ) -> tuple[Model, Clip | None]:
        """Add a LoRA file, `strength` times, to copies of a MODEL and of a CLIP."""

    # Encoding and decoding

    def encode_text(self, clip: Clip, texts: Sequence[str]) -> Tensor:
        """Encode prompts, which may hold weights, as tokens [B, n, d], as if they held none."""

    def weigh_tokens(self, clip: Clip, texts: Sequence[str]) -> Tensor:
        """Return the weight of each token of prompts, [B, n]."""

    def count_tokens(self, clip: Clip, word: str) -> int:
        """Count the tokens that a word takes."""

    def embed_text(self, clip: Clip, texts: Sequence[str]) -> Tensor:
        """Embed texts globally, [B, d], of norm 1; those of pictures are the first tokens of
        `encode_image`."""

    def encode_image(self, clip_vision: ClipVision, images: Tensor, masks: Tensor | None) -> Tensor:
        """Encode pictures [B, 3, H, W] in 0..1 under masks [B, 1, H, W] (1 = keep) as tokens [B, n, d]."""

    def doubt_below(self, clip_vision: ClipVision) -> float:
        """Return the cosine of a picture and a caption below which the caption is in doubt; -1: unknown."""

    def embed_image(self, clip_vision: ClipVision, images: Tensor) -> Tensor:
        """Embed pictures [B, 3, H, W], about 0..1, globally, [B, d], of norm 1; differentiable."""

    def encode_sample(self, vae: VAE, pixels: Tensor, noise: BatchNoise) -> Tensor:
        """Draw latents [B, C, h, w], unscaled, from the posterior of an IMAGE [B, H, W, 3]."""

    def decode(self, vae: VAE, latents: Tensor) -> Tensor:
        """Decode unscaled latents [B, C, h, w] into pictures [B, 3, H, W], about 0..1; differentiable."""

    # Models

    def config(self, model: Model) -> VDConfig:
        """Return the sizes and the schedule of the model behind a MODEL."""

    def schedule_of(self, model: Model) -> Schedule:
        """Return the schedule of a MODEL, with its shift."""

    def check_width(self, model: Model, width: int) -> None:
        """Raise ValueError unless a MODEL reads text tokens of that width."""

    def with_guidance(self, model: Model, guidance: GuidanceOptions) -> Model:
        """Guide a copy of a MODEL with these options. The last ones set count."""

    def guide_low_pass(self, model: Model, guidance: LowPassGuidance) -> Model:
        """Let a copy of a MODEL keep the large shapes of a source. The last one set counts."""

    def steer(self, model: Model, energy: Energy, parts: Sequence[Any]) -> Model:
        """Steer a copy of a MODEL by one more energy. parts: the models that the energy uses."""

    def shift_resolution(
        self, model: Model, latent: dict, trained_side: int, noisy: float, clean: float
    ) -> Model:
        """Shift the noise of a copy of a MODEL for latents of that size."""

    # Sampling

    def sample(
        self,
        model: Model,
        positive: Conditioning,
        negative: Conditioning,
        latent: dict,
        seed: int,
        sampling: Sampling,
        start_noise: dict | None = None,
    ) -> dict:
        """Make a LATENT of the shape of the given one: [B, C, h, w] for pictures, [B, width, 1, 1] for
        texts."""

    def invert(
        self, model: Model, positive: Conditioning, negative: Conditioning, latent: dict, sampling: Sampling
    ) -> Tensor:
        """Find the start_noise of `sample` that leads back to `latent["samples"]`, in its shape."""

    def official_ddim(self, model: Model, steps: int, eta: float) -> tuple[Any, Tensor]:
        """Make the official DDIM as a SAMPLER and its SIGMAS, which ComfyUI's SamplerCustom alone can use."""
