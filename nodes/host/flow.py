"""MODELs of the host without ComfyUI: the flows that make one kind of output, with layers that are read when
needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...vd_core.config import DataConfig, VDConfig
from ...vd_core.context import Blend
from ...vd_core.flows import VersatileDiffusion
from ...vd_core.memory import check_room
from ...vd_core.sampling.corrections import PLAIN, GuidanceOptions
from ...vd_core.sampling.energy import Energy
from ...vd_core.sampling.low_pass import LowPassGuidance
from ...vd_core.sampling.options import Sampling
from ...vd_core.sampling.shift import UNSHIFTED, ResolutionShift
from ..latents import fit_latent

if TYPE_CHECKING:  # vd_core.checkpoints is imported where it is used: it brings transformers
    from ...vd_core.checkpoints.lora_changes import AnyChange


def read_part(path: Path, part: str, dtype: torch.dtype = torch.float32) -> VersatileDiffusion:
    """Read a model with one part."""
    from ...vd_core.checkpoints.load import load

    return load(path, parts=[part], dtype=dtype)


@dataclass(eq=False)
class Layers:
    """The layers of one kind of output, read when they are needed.

    backend: of torch.compile, where they are compiled.
    loras:   what is added to the weights: the changes of a LoRA file, and how often.
    """

    path: Path
    data: str
    dtype: torch.dtype = torch.float32
    backend: str | None = None
    loras: tuple[tuple[Mapping[str, AnyChange], float], ...] = ()
    model: VersatileDiffusion | None = None

    def load_for(self, kinds: Iterable[str]) -> VersatileDiffusion:
        """Return the model with the layers that read these kinds of contexts; what is missing is loaded."""
        if self.model is None:
            self.model = self.read(f"diffuser.data.{self.data}")
            if self.backend is not None:
                self.model.diffuser.compile(backend=self.backend)
        context = self.model.diffuser.context
        for kind in kinds:
            if kind not in context:
                context[kind] = self.read(f"diffuser.context.{kind}").diffuser.context[kind]
        return self.model

    def read(self, part: str) -> VersatileDiffusion:
        """Read a part with its LoRAs."""
        from ...vd_core.checkpoints.lora_changes import merge_changes, name_adaptable

        model = read_part(self.path, part, self.dtype)
        for changes, strength in self.loras:
            merge_changes(name_adaptable(model.diffuser, None), changes, strength)
        return model


@dataclass(frozen=True, eq=False)
class Flow:
    """A MODEL: the flows that make one kind of output, and how they are sampled. Copies with other options
    share the layers."""

    config: VDConfig
    layers: Layers
    guidance: GuidanceOptions = PLAIN
    energies: tuple[Energy, ...] = ()
    shift: ResolutionShift = UNSHIFTED
    low_pass: LowPassGuidance | None = None

    @property
    def data(self) -> str:
        """The kind of output."""
        return self.layers.data

    @property
    def sizes(self) -> DataConfig:
        """The sizes of its latents."""
        return self.config.diffuser.data[self.data]

    def load_for(self, contexts: Blend) -> VersatileDiffusion:
        """Return the model with the layers that read these contexts."""
        return self.layers.load_for({context.kind for context in contexts})

    def complete(self, sampling: Sampling) -> Sampling:
        """Complete the options of a sampler by those that nodes have set on this MODEL."""
        return replace(
            sampling, guidance=self.guidance, energies=self.energies, shift=self.shift, low_pass=self.low_pass
        )

    def compile(self, backend: str) -> Flow:
        """Make a copy with layers of its own, which torch compiles."""
        return replace(self, layers=replace(self.layers, backend=backend, model=None))

    def add_lora(self, changes: Mapping[str, AnyChange], strength: float) -> Flow:
        """Make a copy with layers of its own, to which the changes of one more LoRA are added."""
        loras = (*self.layers.loras, (changes, strength))
        return replace(self, layers=replace(self.layers, loras=loras, model=None))

    def fit(self, latent: Tensor) -> Tensor:
        """Check and widen a latent as `fit_latent` does. Raises ValueError where no guided step on it fits
        into memory."""
        samples = fit_latent(latent, self.sizes, self.data)
        if self.sizes.layers == "2d":
            batch, _, height, width = samples.shape
            # At least 20 tensors of 2 bytes; measured are 25 to 59 in the type that is computed in.
            needed = 20 * 2 * 2 * batch * self.config.diffuser.model_channels * height * width
            check_room(f"A step on {batch} latents of {width}x{height}", needed)
        return samples

    def flatten_texts(self, latent: Tensor) -> Tensor:
        """Bring a latent [B, C, h, w], or a mask of one, into the model's shape: for texts [B, C]."""
        return latent.flatten(1) if self.sizes.layers == "0d" else latent
