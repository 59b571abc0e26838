"""Train a published or own model on anyone's pictures: whole flows or a LoRA, with DreamBooth's prior."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from ..checkpoints.load import Paths, load
from ..checkpoints.lora import save_lora
from ..checkpoints.parts import list_flow_parts
from ..checkpoints.write import save_model
from ..diffuser.model import Diffuser
from ..flows import VersatileDiffusion
from ..sampling.options import Sampling
from ..sampling.schedule import Schedule
from ..sampling.shift import UNSHIFTED, ResolutionShift
from . import distributed
from .diffuser import FlowData, draw_anew, find_layer_group, flow_losses
from .flow_sheets import Sheets
from .loop import Group, fit
from .lora import Lora, select
from .loss_plot import plot_losses
from .prepared import Flow, Prepared, Source, prepare
from .prior import PriorDrawing, draw_prior
from .settings import Settings, record_settings
from .small_model import digest

log = logging.getLogger(__name__)

ALL = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def train(
    data: Path,
    model: Paths,
    out: Path,
    settings: Settings,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path | None:
    """Train, or resume, a run in the folder `out`; returns the file that was written.

    It is out/lora.safetensors, or out/model.safetensors with the diffuser's trained parts, to be loaded
    before the other files. Under torchrun all processes call it, with one `out` that they share. Raises
    ValueError and FileNotFoundError with one sentence.
    """
    distributed.share(settings.batch)
    flows, device = settings.flows, torch.device(settings.device)
    accept = settings.accept_changes
    source = Source(data, settings.size, settings.caption, settings.recursive, settings.background)
    pictures = prepare(source, model, out / "data", flows, device, accept)
    prior = None
    if settings.prior is not None and settings.prior.weight != 0:
        kept = settings.prior
        if kept.data is None:
            drawing = PriorDrawing(kept.prompts, kept.count, settings.size, settings.cfg)
            source = Source(draw_prior(model, out / "prior", drawing, device, accept), settings.size)
        else:
            source = replace(source, path=kept.data, caption=None)
        prior = prepare(source, model, out / "prior_data", flows, device, accept)
    parts = {part for flow in flows for part in list_flow_parts(*flow) if not part.startswith("clip")}
    layers = {part for part in parts if part.startswith("diffuser.")}
    diffuser = load(model, parts=layers, dtype=settings.weights if settings.lora else torch.float32).diffuser
    vd = load(model, parts=parts - layers)
    if settings.from_scratch:  # on the CPU, so that all devices draw the same
        torch.manual_seed(settings.seed)
        draw_anew(diffuser)
        schedule = replace(vd.config.schedule, prediction=settings.target or vd.config.schedule.prediction)
        vd = vd.replace(replace(vd.config, schedule=schedule))
    vd = vd.replace(diffuser=diffuser if settings.shard else diffuser.to(device))
    run = Run(settings, vd, pictures, prior, out)
    trained = run.train(progress)
    if not distributed.is_first():
        return None
    return run.write(trained)


class Run:
    """One run on prepared data."""

    def __init__(
        self,
        settings: Settings,
        vd: VersatileDiffusion,
        pictures: Prepared,
        prior: Prepared | None,
        out: Path,
    ):
        self.settings, self.vd, self.pictures, self.prior, self.out = settings, vd, pictures, prior, out
        self.schedule, self.step = Schedule(vd.config.schedule), 0
        self.sharding = None
        if settings.shard:
            # Imported here: the others need nothing of it.
            from .sharding import Sharding

            self.sharding = Sharding(torch.device(settings.device))
        torch.manual_seed(settings.seed)
        self.trained_on: dict[str, Any] = {
            "data": pictures.digest,
            "model": digest(tensor.view(torch.uint8) for tensor in vd.diffuser.state_dict().values()),
        }
        vd.diffuser.requires_grad_(settings.lora is None)
        self.module: Diffuser | Lora
        if settings.lora is None:
            self.module, self.trains = vd.diffuser, "all weights"
            self.groups = group_parameters(vd.diffuser.named_parameters(), settings)
        else:
            names = select(vd.diffuser, settings.lora.layers)
            lora = Lora(vd.diffuser, names, settings.lora.rank, settings.lora.alpha)
            self.module = lora
            words = " ".join(settings.lora.layers)
            size = f"LoRA of rank {settings.lora.rank}, alpha {settings.lora.alpha:g}"
            self.trains = f"{size}, {len(names)} layers of {words}"
            named = ((name, p) for name, layer in lora.list_low_ranks() for p in layer.parameters())
            self.groups = group_parameters(named, settings)
        self.trained_on |= {"trains": self.trains} | record_settings(settings)
        if settings.from_scratch:
            self.trained_on |= {"target": vd.config.schedule.prediction}
        self.prior_weight = 0.0 if settings.prior is None else settings.prior.weight
        if prior is not None:
            self.trained_on |= {"prior": prior.digest, "prior_weight": self.prior_weight}

    def train(self, progress: Callable[[int, int, float], None] | None) -> Diffuser | Lora:
        """Train all stages; returns the averaged weights."""
        settings, total = self.settings, sum(steps for _, steps in self.settings.stages)
        count = sum(p.numel() for group in self.groups for p in group.parameters)
        log.info(
            "%d pictures; training %s parameters (%s)", len(self.pictures.captions), f"{count:,}", self.trains
        )
        sampling = Sampling("dpmpp_2m", 20, settings.cfg)
        sheets = Sheets(self.vd, self.pictures, settings.flows, settings.sheet_size, sampling)
        until, module = 0, self.module

        def note(step: int, steps: int, left: float) -> None:
            self.step = step
            if progress is not None:
                progress(step, steps, left)

        def show(average: Diffuser | Lora, out: Path) -> None:
            plot_losses(out / "log.jsonl", out / "loss.png")
            with self.attach(average) as diffuser:
                sheets.write(diffuser.to(settings.device), out, self.step)
            if settings.shard:  # the device is for the parts
                average.to("cpu")

        for flows, steps in settings.stages:
            until += steps
            module = fit(
                self.module,
                self.losses(flows),
                self.out,
                steps=total,
                until=until,
                lr=settings.lr,
                trained_on=self.trained_on,
                accept_changes=settings.accept_changes,
                seed=settings.seed,
                ema=settings.ema,
                weight_decay=settings.weight_decay,
                warmup=settings.warmup,
                save_every=settings.save_every,
                groups=self.groups,
                shard=self.sharding,
                attention=choose_attention(self.pictures.flows, settings.device),
                sheet=show,
                progress=note,
            )
        return module

    def losses(self, flows: Sequence[Flow]):
        """Return the loss of one stage: every flow on the pictures, then on the prior ones by its weight."""
        settings = self.settings
        options: dict[str, Any] = {
            "dropout": settings.dropout,
            "refinements": settings.refinements,
            "precision": settings.precision,
            "device": settings.device,
            "checkpointing": settings.checkpointing,
            "levels": self.shift_levels(),
        }
        batches = dict.fromkeys(flows, settings.batch)
        own = flow_losses(self.pictures.flows, self.schedule, batches, **options)
        kept = (
            None if self.prior is None else flow_losses(self.prior.flows, self.schedule, batches, **options)
        )

        def losses(module: Diffuser | Lora, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
            with self.attach(module) as diffuser:
                yield from own(diffuser, generator)
                if kept is not None:
                    yield from (
                        (f"prior_{name}", self.prior_weight * loss)
                        for name, loss in kept(diffuser, generator)
                    )

        return losses

    def shift_levels(self) -> dict[str, Tensor]:
        """Return the shifted timesteps by kind of picture, which a sampler with the same shift visits too."""
        found = {}
        for kind, latents in self.pictures.flows.latents.items():
            if self.settings.shift and latents.ndim == 4:
                height, width = latents.shape[2:]
                shift = ResolutionShift.of_size(height, width, self.vd.config.diffuser.data[kind].side)
                if shift != UNSHIFTED:
                    found[kind] = torch.from_numpy(
                        Schedule(self.vd.config.schedule, shift).shifted_timesteps()
                    )
        return found

    def attach(self, module: Diffuser | Lora) -> AbstractContextManager[Diffuser]:
        """Return the diffuser that trained weights stand for: themselves, or the frozen one with a LoRA."""
        return module.attach(self.vd.diffuser) if isinstance(module, Lora) else nullcontext(module)

    def write(self, trained: Diffuser | Lora) -> Path:
        """Write the result for other programs; returns its path."""
        if isinstance(trained, Lora):
            path = self.out / "lora.safetensors"
            outputs = list(dict.fromkeys(data for data, _ in self.settings.flows))
            save_lora(path, trained.changes(), self.vd.config.diffuser, outputs, torch.float16)
        else:
            path = self.out / "model.safetensors"
            save_model(path, VersatileDiffusion(self.vd.config, trained.to("cpu")))
        return path


def group_parameters(named: Iterable[tuple[str, nn.Parameter]], settings: Settings) -> list[Group]:
    """Group parameters by layers, without frozen ones. Raises ValueError for unknown groups."""
    members: dict[str, list[nn.Parameter]] = {"global": [], "data": [], "context": []}
    for name, parameter in named:
        members[find_layer_group(name)].append(parameter)
    if strangers := (settings.gradient_scales.keys() | settings.rates.keys()) - members.keys():
        raise ValueError(
            f"The groups of layers are {', '.join(members)}, not {', '.join(sorted(strangers))}."
        )
    found = [
        Group(members[name], settings.gradient_scales.get(name, 1.0), settings.rates.get(name, 1.0))
        for name in members
    ]
    for group in found:
        for parameter in group.parameters:
            parameter.requires_grad_(group.gradient_scale != 0 and group.rate != 0)
    if not (
        trained := [group for group in found if group.parameters and group.gradient_scale and group.rate]
    ):
        raise ValueError("There is nothing to train: all groups of layers have a scale or a rate of 0.")
    return trained


def choose_attention(flows: FlowData, device: str) -> list[SDPBackend]:
    """Choose how attention is computed.

    On the CPU the fused backward is slow on short sequences, and the only one that fits into memory on long
    ones.
    """
    longest = max(latents[0, 0].numel() for latents in flows.latents.values())
    return [SDPBackend.MATH] if device == "cpu" and longest <= 256 else ALL
