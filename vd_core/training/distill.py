"""Distillation: a model, or a LoRA for it, that samples in few large steps and without guidance."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..checkpoints.load import Paths, load
from ..checkpoints.lora import save_lora
from ..checkpoints.parts import parts_of_flow
from ..checkpoints.write import save_model
from ..diffuser.model import Diffuser
from ..flows import VersatileDiffusion
from ..sampling.schedule import Schedule
from . import distributed
from .adversarial_decoder import BETAS
from .consistency import consistency_losses
from .ddgan import AdversarialWeights, Adversaries, ddgan_losses
from .loop import Group, fit
from .lora import Lora, select
from .loss_plot import plot_losses
from .prepared import Flow, Prepared, Source, prepare
from .small_model import digest
from .train import attention_backends

log = logging.getLogger(__name__)

METHODS = ("ddgan", "lcm")
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
    teacher: float = 1.0
    caption: str | None = None
    ema: float = 0.999
    seed: int = 0
    precision: torch.dtype = torch.float32
    device: str = "cpu"
    save_every: int = 500

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"The method of distillation is one of {', '.join(METHODS)}, got {self.method!r}."
            )
        if min(self.steps, self.iterations, self.batch, self.save_every) < 1:
            raise ValueError(
                "The numbers of steps, of iterations, of samples and between checkpoints are at least 1."
            )


def distill(
    data: Path,
    model: Paths,
    out: Path,
    settings: Settings,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path | None:
    """Distil, or resume, a run in the folder `out`; returns the file that was written.

    It is out/lora.safetensors, or out/model.safetensors with the diffuser's parts, to be loaded before the
    other files. Under torchrun all processes call it, with one `out` that they share; all but the first
    return None. Raises ValueError and FileNotFoundError with one sentence.
    """
    distributed.share(settings.batch)
    device = torch.device(settings.device)
    out.mkdir(parents=True, exist_ok=True)
    source = Source(data, settings.size, settings.caption)
    pictures = prepare(source, model, out / "data", settings.flows, device)
    layers = {
        part for flow in settings.flows for part in parts_of_flow(*flow) if part.startswith("diffuser.")
    }
    vd = load(model, parts=layers, dtype=torch.float32)
    trained = run(settings, vd, vd.diffuser.to(device).requires_grad_(False), pictures, out, progress)
    return write(trained, vd, settings, out) if distributed.is_first() else None


def run(
    settings: Settings,
    vd: VersatileDiffusion,
    teacher: Diffuser,
    pictures: Prepared,
    out: Path,
    progress: Callable[[int, int, float], None] | None,
) -> nn.Module:
    """Train the student of a frozen teacher; returns it, averaged."""
    torch.manual_seed(settings.seed)
    schedule, outputs = Schedule(vd.config.schedule), list(dict.fromkeys(data for data, _ in settings.flows))
    if settings.lora is None:
        student: nn.Module = copy.deepcopy(teacher).requires_grad_(True)
    else:
        student = Lora(
            teacher,
            select(teacher, ["context:attn", *(f"data.{kind}" for kind in outputs)]),
            settings.lora,
            settings.lora,
        )

    def attach(module: nn.Module) -> AbstractContextManager[Diffuser]:
        return module.attached(teacher) if isinstance(module, Lora) else nullcontext(module)

    batches = dict.fromkeys(settings.flows, settings.batch)
    options = {"precision": settings.precision, "device": settings.device}
    if settings.method == "ddgan":
        module: nn.Module = Adversaries(student, vd.config.diffuser, outputs).to(settings.device)
        walk, weights = (
            schedule.steps(settings.steps, "sgm_uniform"),
            AdversarialWeights(teacher=settings.teacher),
        )
        losses = ddgan_losses(
            pictures.flows, schedule, walk, batches, teacher, attach, settings.cfg, weights, **options
        )
    else:
        module = student
        walk = schedule.steps(max(TEACHER_STEPS, settings.steps), "sgm_uniform")
        losses = consistency_losses(
            pictures.flows, schedule, walk, batches, teacher, attach, settings.cfg, **options
        )
    parameters = [p for p in module.parameters() if p.requires_grad]
    log.info(
        "%d pictures; %s into %d steps, %s parameters learn",
        len(pictures.captions),
        settings.method,
        settings.steps,
        f"{sum(p.numel() for p in parameters):,}",
    )
    trained = fit(
        module,
        losses,
        out,
        steps=settings.iterations,
        lr=settings.lr,
        trained_on={
            "data": pictures.digest,
            "model": digest(tensor.view(torch.uint8) for tensor in teacher.state_dict().values()),
            "method": ", ".join(
                f"{name} {getattr(settings, name)}" for name in ("method", "steps", "cfg", "teacher")
            ),
            "trains": "all weights" if settings.lora is None else f"a LoRA of rank {settings.lora}",
        },
        seed=settings.seed,
        ema=settings.ema,
        betas=BETAS,
        weight_decay=0.0,
        save_every=settings.save_every,
        groups=[Group(parameters)],
        attention=attention_backends(pictures.flows, settings.device),
        sheet=lambda average, folder: plot_losses(folder / "log.jsonl", folder / "loss.png"),
        progress=progress,
    )
    return trained.student if settings.method == "ddgan" else trained


def write(student: nn.Module, vd: VersatileDiffusion, settings: Settings, out: Path) -> Path:
    """Write the result for other programs."""
    if isinstance(student, Lora):
        path = out / "lora.safetensors"
        outputs = list(dict.fromkeys(data for data, _ in settings.flows))
        save_lora(path, student.changes(), vd.config.diffuser, outputs, torch.float16)
    else:
        path = out / "model.safetensors"
        save_model(path, VersatileDiffusion(vd.config, student.to("cpu")))
    return path
