"""Everything that can be chosen of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..sampling.checks import check_number, check_size
from .loss import PLAIN, Refinements
from .prepared import Flow


@dataclass(frozen=True)
class LoraSettings:
    """What a LoRA changes: the `layers` that `lora.select` chooses, at a rank, scaled by alpha / rank."""

    rank: int
    alpha: float
    layers: tuple[str, ...]

    def __post_init__(self) -> None:
        check_number("The rank of a LoRA", self.rank, 1, 4096)
        check_number("alpha", self.alpha, 1e-6, 1e6)


@dataclass(frozen=True)
class PriorSettings:
    """DreamBooth's prior preservation (Ruiz et al. 2023, eq. 2): L + weight · L_prior.

    data:    pictures of the class with captions; None = `count` of them are drawn by the model itself for the
             `prompts`.
    """

    data: Path | None = None
    prompts: tuple[str, ...] = ()
    count: int = 100
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("The number of prior pictures", self.count, 1, 10**6)
        check_number("The weight of the prior", self.weight, 0, 1000)


RANGES = {
    "batch": (1, 65536),
    "lr": (1e-12, 1000),
    "warmup": (0, 10**9),
    "dropout": (0, 1),
    "ema": (0, 0.999999),
    "weight_decay": (0, 1000),
    "seed": (0, 2**63 - 1),
    "save_every": (1, 10**9),
    "sheet_size": (0, 256),
    "cfg": (0, 1000),
}
# What changes the weights that come out. Not among them: the number of steps, so that a run can be made
# longer, what is only shown, and where it is computed.
COUNTS = (
    "lr",
    "batch",
    "seed",
    "dropout",
    "ema",
    "warmup",
    "weight_decay",
    "shift",
    "gradient_scales",
    "rates",
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be chosen of a run.

    stages:          flows (output kind, condition kind) and their number of steps, one stage after the other.
    batch:           samples per step and flow, over all processes.
    size:            side of the pictures in pixels. caption: for pictures that have none.
    dropout:         share of samples whose context is dropped, for classifier-free guidance.
    gradient_scales, rates: layer group ("global", "data", "context") -> factor of its gradients (VD,
                     Algorithm 1), of its learning rate; 0 freezes it.
    shift:           train pictures larger than the model's at the noise levels of simple diffusion's shifted
                     schedule.
    precision:       of the matrix products; weights: of the frozen weights under a LoRA.
    cfg:             guidance of the pictures on the sheets and of drawn prior pictures.
    from_scratch:    initialise all weights of the diffuser at random first; its sizes, the encoders and the
                     autoencoders stay those of the model.
    target:          what the network learns to predict, "eps" or "v", from scratch; None = what the model's
                     does.
    shard:           divide trained weights among the processes (`sharding`).
    recursive:       take the subfolders of the data too. background: the colour under transparent pictures.
    accept_changes:  go on with a run whose data, model or settings have changed; its record says so.

    Raises ValueError for numbers out of range and for what does not go together.
    """

    stages: tuple[tuple[tuple[Flow, ...], int], ...]
    size: int
    batch: int = 4
    lr: float = 1e-5
    warmup: int = 100
    caption: str | None = None
    dropout: float = 0.1
    ema: float = 0.999
    weight_decay: float = 0.01
    seed: int = 0
    gradient_scales: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    refinements: Refinements = PLAIN
    shift: bool = False
    precision: torch.dtype = torch.float32
    weights: torch.dtype = torch.float32
    checkpointing: bool = False
    device: str = "cpu"
    save_every: int = 500
    sheet_size: int = 4
    cfg: float = 7.5
    lora: LoraSettings | None = None
    prior: PriorSettings | None = None
    from_scratch: bool = False
    target: str | None = None
    shard: bool = False
    recursive: bool = False
    background: str = "white"
    accept_changes: bool = False

    def __post_init__(self) -> None:
        for name, (lowest, highest) in RANGES.items():
            check_number(name, getattr(self, name), lowest, highest)
        check_size("size", self.size)
        for flows, steps in self.stages:
            check_number(f"The number of steps of {'+'.join(map('_to_'.join, flows))}", steps, 1, 10**9)
        for name, scale in (*self.gradient_scales.items(), *self.rates.items()):
            check_number(f"The scale of {name}", scale, 0, 1000)
        if self.refinements.min_snr is not None:
            check_number("min_snr", self.refinements.min_snr, 1e-6, 1e6)
        if self.refinements.multiscale is not None:
            check_number("multiscale", self.refinements.multiscale, 1, 1024)
        if self.from_scratch and self.lora:
            raise ValueError("A LoRA changes weights that are there: leave out --lora, or --from-scratch.")
        if self.target and not self.from_scratch:
            raise ValueError(
                "Weights predict what they were trained to predict: give --target with --from-scratch only."
            )
        if self.shard and self.lora:
            raise ValueError(
                "--shard divides trained weights, and a LoRA has few: leave out --lora, or --shard."
            )
        if self.weights != torch.float32 and self.precision != self.weights:
            raise ValueError(
                "Frozen weights in bf16 need matrix products in bf16 too: give --precision bf16."
            )

    @property
    def flows(self) -> list[Flow]:
        """All flows of all stages."""
        return list(dict.fromkeys(flow for flows, _ in self.stages for flow in flows))


def record_settings(settings: Settings) -> dict:
    """Return the settings that change the result, as strings and numbers."""
    flows = " ".join("+".join(f"{kind}_to_{data}" for data, kind in flows) for flows, _ in settings.stages)
    refinements = {"min_snr": settings.refinements.min_snr, "multiscale": settings.refinements.multiscale}
    precision = {"precision": str(settings.precision), "weights": str(settings.weights)}
    return {"flows": flows, **{name: getattr(settings, name) for name in COUNTS}, **refinements, **precision}
