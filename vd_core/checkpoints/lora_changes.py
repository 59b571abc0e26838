"""Changes of single layers that LoRA files hold, and how they are added to weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..placement import check_device
from .faults import is_finite


@dataclass(frozen=True)
class Change:
    """The change of one layer's weight: alpha / rank · up @ down.

    down: [rank, inputs, …kernel]. up: [outputs, rank] or [outputs, rank, 1, 1].
    mid:  of LoCon (Yeh et al. 2024), [rank, rank, …kernel], between a down and an up without a kernel.
    """

    down: Tensor
    up: Tensor
    alpha: float
    mid: Tensor | None = None

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return len(self.down)

    def delta(self, strength: float = 1.0) -> Tensor:
        """Compute what is added to the weight, [outputs, inputs, …kernel], in float32; computed as ComfyUI
        does."""
        up, down = self.up.float().flatten(1), self.down.float()
        if self.mid is None:
            product = torch.mm(up, down.flatten(1)).reshape(len(up), *down.shape[1:])
        else:
            product = torch.einsum("or,rs...,si->oi...", up, self.mid.float(), down.flatten(1))
        return (strength * (self.alpha / self.rank)) * product


@dataclass(frozen=True)
class HadamardChange:
    """The change of one layer's weight as LoHa makes it (Hyeon-Woo et al. 2022).

    It is alpha / rank · (w1_a @ w1_b) * (w2_a @ w2_b).

    w1_a, w2_a: [outputs, rank]. w1_b, w2_b: [rank, inputs · kernel].
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rows of `w1_b`."""
        return len(self.w1_b)

    def delta(self, strength: float = 1.0) -> Tensor:
        """Return what is added to the weight, [outputs, inputs · kernel], in float32."""
        first, second = self.w1_a.float() @ self.w1_b.float(), self.w2_a.float() @ self.w2_b.float()
        return (strength * (self.alpha / self.rank)) * (first * second)


AnyChange = Change | HadamardChange


def find_adaptable(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers of a diffuser, or of another module, that a LoRA can change, by their names."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def merge_change(weight: Tensor, change: AnyChange, strength: float = 1.0) -> Tensor:
    """Add a change to a weight, rounded once to the weight's precision; strength 0 returns the weight itself.

    Raises ValueError where the result is not finite.
    """
    if not math.isfinite(strength):
        raise ValueError(f"The strength of a LoRA must be a finite number, got {strength}.")
    if strength == 0:
        return weight
    changed = (weight.float() + change.delta(strength).reshape(weight.shape).to(weight.device)).to(
        weight.dtype
    )
    if not is_finite(changed):
        raise ValueError(
            f"A LoRA with strength {strength} makes weights that are not finite numbers: choose a smaller "
            "strength."
        )
    return changed


def name_adaptable(
    diffuser: nn.Module | None, text_tower: nn.Module | None
) -> dict[str, nn.Linear | nn.Conv2d]:
    """Name the layers that a LoRA can change, "diffuser.…" and "clip_text.…"."""
    modules = {"diffuser": diffuser, "clip_text": text_tower}
    return {
        f"{part}.{name}": layer
        for part, module in modules.items()
        if module is not None
        for name, layer in find_adaptable(module).items()
    }


@torch.no_grad()
def merge_changes(
    layers: Mapping[str, nn.Linear | nn.Conv2d], changes: Mapping[str, AnyChange], strength: float
) -> None:
    """Add changes to the weights of those layers that are there, `strength` times.

    Nothing is changed if anything is wrong. Raises what `merge_change` raises, and ValueError for layers on
    the meta device.
    """
    here = {layer: change for layer, change in changes.items() if layer in layers}
    # All are checked before the first is written. Keeping them would need the room of a second model, so each
    # is computed twice.
    for layer, change in here.items():
        check_device(layers[layer].weight, f"layer {layer}")
        merge_change(layers[layer].weight, change, strength)
    for layer, change in here.items():
        layers[layer].weight.copy_(merge_change(layers[layer].weight, change, strength))
