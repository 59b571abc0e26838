"""Distillation: a model, or a LoRA for it, that samples in few large steps and without guidance."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ..checkpoints.load import Paths, load
from ..checkpoints.lora import save_lora
from ..checkpoints.parts import list_flow_parts
from ..checkpoints.write import save_model
from ..choices import METHODS
from ..diffuser.model import Diffuser
from ..flows import VersatileDiffusion
from ..sampling.options import Sampling
from ..sampling.schedule import Schedule
from . import distributed
from .adversarial_decoder import BETAS
from .consistency import consistency_losses
from .ddgan import AdversarialWeights, Adversaries, ddgan_losses
from .flow_sheets import Sheets
from .loop import Group, fit
from .lora import Lora, check_rank, extract, select
from .loss_plot import plot_losses
from .prepared import Flow, Prepared, Source, prepare
from .small_model import Losses, digest
from .train import choose_attention

log = logging.getLogger(__name__)
TEACHER_STEPS = 20  # of the path along which "lcm" is consistent; at least as many as the student takes


@dataclass(frozen=True)
class Settings:
    """Everything that can be chosen of a run.

    method:     "ddgan", an adversary, or "lcm", consistency.
    steps:      large steps that the result samples in, its timesteps spaced as "sgm_uniform".
    iterations: of training. batch: samples of each flow in one, over all processes.
    cfg:        guidance of the teacher, which is folded in: the result is sampled at 1.
    lora:       rank of a LoRA of the context layers' attentions and of the output's layers; None = all
                weights learn.
    extract:    rank of a LoRA that is written beside the weights, the nearest to what they learned.
    teacher:    see `AdversarialWeights`. precision: of the matrix products.
    """

    flows: tuple[Flow, ...]
    size: int
    method: str = "ddgan"
    steps: int = 4
    iterations: int = 3000
    batch: int = 16
    lr: float = 1e-5
    cfg: float = 7.5
    lora: int | None = None
    extract: int | None = None
    teacher: float = 1.0
    caption: str | None = None
    ema: float = 0.999
    seed: int = 0
    precision: torch.dtype = torch.float32
    device: str = "cpu"
    save_every: int = 500
    sheet_size: int = 4

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"The method of distillation is one of {', '.join(METHODS)}, got {self.method!r}."
            )
        if min(self.steps, self.iterations, self.batch, self.save_every) < 1:
            raise ValueError(
                "The numbers of steps, of iterations, of samples and between checkpoints are at least 1."
            )
        if self.extract is not None:
            check_rank(self.extract)
            if self.lora is not None:
                raise ValueError("A LoRA is trained already: nothing is left to extract.")


def distill(
    data: Path,
    model: Paths,
    out: Path,
    settings: Settings,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path | None:
    """Distil, or resume, a run in the folder `out`; returns the file that was written.

    It is out/lora.safetensors, or out/model.safetensors with the diffuser's parts, to be loaded before the
    other files, and out/lora.safetensors beside it where one is extracted. Under torchrun all processes call
    it, with one `out` that they share; all but the first return None. Raises ValueError and FileNotFoundError
    with one sentence.
    """
    distributed.share(settings.batch)
    device = torch.device(settings.device)
    source = Source(data, settings.size, settings.caption)
    pictures = prepare(source, model, out / "data", settings.flows, device)
    parts = {
        part for flow in settings.flows for part in list_flow_parts(*flow) if not part.startswith("clip")
    }
    vd = load(model, parts=parts)
    vd.diffuser.to(device, torch.float32).requires_grad_(False)
    run = Distillation(settings, vd, pictures, out)
    student = run.train(progress)
    return run.write(student) if distributed.is_first() else None


class Distillation:
    """One run on prepared data: the diffuser of `vd`, frozen, teaches a student."""

    def __init__(self, settings: Settings, vd: VersatileDiffusion, pictures: Prepared, out: Path):
        self.settings, self.vd, self.pictures, self.out = settings, vd, pictures, out
        self.outputs = list(dict.fromkeys(data for data, _ in settings.flows))
        self.step = 0
        torch.manual_seed(settings.seed)
        teacher = vd.diffuser
        if settings.lora is None:
            student: Diffuser | Lora = copy.deepcopy(teacher).requires_grad_(True)
        else:
            layers = select(teacher, ["context:attn", *(f"data.{kind}" for kind in self.outputs)])
            student = Lora(teacher, layers, settings.lora, settings.lora)
        self.module: nn.Module = student
        sides: list[nn.Module] = [student]
        if settings.method == "ddgan":
            adversaries = Adversaries(student, vd.config.diffuser, self.outputs)
            self.module, sides = adversaries, [student, adversaries.discriminators]
        self.module.to(settings.device)
        self.groups = [Group([p for p in side.parameters() if p.requires_grad]) for side in sides]

    def attach(self, student: nn.Module) -> AbstractContextManager[Diffuser]:
        """Return the diffuser that a student stands for: itself, or the teacher with a LoRA."""
        if isinstance(student, Lora):
            return student.attach(self.vd.diffuser)
        return nullcontext(cast(Diffuser, student))

    def losses(self) -> Losses:
        """Return what the method asks for."""
        settings, schedule = self.settings, Schedule(self.vd.config.schedule)
        batches = dict.fromkeys(settings.flows, settings.batch)
        given = self.vd.diffuser, self.attach, settings.cfg
        where: dict[str, Any] = {"precision": settings.precision, "device": settings.device}
        if settings.method == "ddgan":
            walk, weights = (
                schedule.steps(settings.steps, "sgm_uniform"),
                AdversarialWeights(settings.teacher),
            )
            return ddgan_losses(self.pictures.flows, schedule, walk, batches, *given, weights, **where)
        path = schedule.steps(max(TEACHER_STEPS, settings.steps), "sgm_uniform")
        return consistency_losses(self.pictures.flows, schedule, path, batches, *given, **where)

    def train(self, progress: Callable[[int, int, float], None] | None) -> nn.Module:
        """Train the student; returns it with averaged weights."""
        settings = self.settings
        count = sum(p.numel() for group in self.groups for p in group.parameters)
        log.info("%d pictures; training %s parameters", len(self.pictures.captions), f"{count:,}")
        sampling = Sampling(settings.method, settings.steps, cfg=1.0)
        sheets = Sheets(self.vd, self.pictures, settings.flows, settings.sheet_size, sampling)

        def note(step: int, steps: int, left: float) -> None:
            self.step = step
            if progress is not None:
                progress(step, steps, left)

        def show(average: nn.Module, out: Path) -> None:
            plot_losses(out / "log.jsonl", out / "loss.png")
            with self.attach(get_student(average)) as diffuser:
                sheets.write(diffuser, out, self.step)

        chosen = ("method", "steps", "cfg", "teacher", "lora")
        trained = fit(
            self.module,
            self.losses(),
            self.out,
            steps=settings.iterations,
            lr=settings.lr,
            trained_on={
                "data": self.pictures.digest,
                "model": digest(
                    tensor.view(torch.uint8) for tensor in self.vd.diffuser.state_dict().values()
                ),
                "settings": ", ".join(f"{name} {getattr(settings, name)}" for name in chosen),
            },
            seed=settings.seed,
            ema=settings.ema,
            betas=BETAS,
            weight_decay=0.0,
            save_every=settings.save_every,
            groups=self.groups,
            clip_apart=True,
            attention=choose_attention(self.pictures.flows, settings.device),
            sheet=show,
            progress=note,
        )
        return get_student(trained)

    def write(self, student: nn.Module) -> Path:
        """Write the result for other programs."""
        lora = self.out / "lora.safetensors"
        save_changes = partial(
            save_lora, lora, config=self.vd.config.diffuser, data=self.outputs, dtype=torch.float16
        )
        if isinstance(student, Lora):
            save_changes(student.changes())
            return lora
        diffuser, path = cast(Diffuser, student), self.out / "model.safetensors"
        if self.settings.extract is not None:
            save_changes(extract(self.vd.diffuser, diffuser, self.settings.extract))
        save_model(path, VersatileDiffusion(self.vd.config, diffuser.to("cpu")))
        return path


def get_student(module: nn.Module) -> nn.Module:
    """Return what samples, of what is trained."""
    return module.student if isinstance(module, Adversaries) else module
