"""Trainable low-rank changes of a frozen diffuser (Hu et al. 2022)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.lora_changes import Change, find_adaptable
from ..diffuser.model import Diffuser


class LowRank(nn.Module):
    """The change of one layer: input -> what is added to its output. `up` starts at zero, so at first nothing
    is."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        outputs, *inputs = layer.weight.shape
        where: dict[str, Any] = {"dtype": torch.float32, "device": layer.weight.device}
        self.down = nn.Parameter(torch.empty(rank, *inputs, **where))
        self.up = nn.Parameter(torch.zeros(outputs, rank, *[1] * (len(inputs) - 1), **where))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)
        self.steps: dict[str, Any] | None = (
            {"stride": layer.stride, "padding": layer.padding} if isinstance(layer, nn.Conv2d) else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.steps is None:
            return F.linear(F.linear(x, self.down), self.up)
        return F.conv2d(F.conv2d(x, self.down, **self.steps), self.up)


class Lora(nn.Module):
    """Changes of the named layers of a diffuser, scaled by alpha / rank; the diffuser itself stays as it is.

    Raises ValueError for a rank below 1.
    """

    def __init__(self, diffuser: Diffuser, names: Sequence[str], rank: int, alpha: float):
        super().__init__()
        check_rank(rank)
        layers = find_adaptable(diffuser)
        self.names, self.rank, self.alpha = list(names), rank, alpha
        self.layers = nn.ModuleList(LowRank(layers[name], rank) for name in names)

    @contextmanager
    def attach(self, diffuser: Diffuser) -> Iterator[Diffuser]:
        """Let the diffuser compute with the changes; nothing is merged, so that gradients reach them.

        They stay in float32 whatever the diffuser's precision, so that small updates are not lost.
        """
        layers, scale = find_adaptable(diffuser), self.alpha / self.rank

        def add(change: LowRank, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return output + (scale * change(inputs[0].to(change.down))).to(output)

        hooks = [
            layers[name].register_forward_hook(partial(add, change)) for name, change in self.list_low_ranks()
        ]
        try:
            yield diffuser
        finally:
            for hook in hooks:
                hook.remove()

    def list_low_ranks(self) -> Iterator[tuple[str, LowRank]]:
        """Yield the changed layers with their changes."""
        return zip(self.names, cast(Iterable[LowRank], self.layers), strict=True)

    def changes(self) -> dict[str, Change]:
        """Return what is learned so far, by layer, on the CPU."""
        return {
            name: Change(change.down.detach().cpu(), change.up.detach().cpu(), self.alpha)
            for name, change in self.list_low_ranks()
        }


@torch.no_grad()
def extract(before: Diffuser, after: Diffuser, rank: int) -> dict[str, Change]:
    """Find the LoRA of this rank that comes nearest to what training changed, by layer, on the CPU.

    Each change is the truncated singular value decomposition of the difference of a layer's weights, the
    nearest of its rank (Eckart & Young 1936). Biases and normalisations, which no LoRA changes, are left out.
    Raises ValueError for a rank below 1.
    """
    check_rank(rank)
    changes, trained = {}, find_adaptable(after)
    for name, layer in find_adaptable(before).items():
        difference = (trained[name].weight.float() - layer.weight.float()).cpu()
        if not difference.any():
            continue
        outputs, *inputs = difference.shape
        u, s, v = torch.linalg.svd(difference.flatten(1), full_matrices=False)
        kept = min(rank, len(s))
        half = s[:kept].sqrt()
        down = (half[:, None] * v[:kept]).reshape(kept, *inputs)
        up = (u[:, :kept] * half).reshape(outputs, kept, *[1] * (len(inputs) - 1))
        changes[name] = Change(down, up.contiguous(), kept)
    return changes


def check_rank(rank: int) -> None:
    """Raise a ValueError for a rank below 1."""
    if rank < 1:
        raise ValueError(f"The rank of a LoRA is at least 1, got {rank}.")


def select(diffuser: Diffuser, wanted: Collection[str]) -> list[str]:
    """Select the layers that some words name: the start of a layer's name, and after a colon the start of one
    of its later parts.

    "context" are all context layers, "context.text" those that read texts, "context.text:attn" their
    attentions, ":attn2" their cross-attentions; "data.image", "data.text" and "time_embed" the others. Raises
    ValueError for words that choose nothing.
    """
    chosen = set()
    for word in wanted:
        start, _, inner = word.partition(":")
        found = [
            name
            for name in find_adaptable(diffuser)
            if (not start or name.startswith(f"{start}."))
            and (not inner or any(part.startswith(inner) for part in name.split(".")))
        ]
        if not found:
            kinds = [
                f"{group}.{kind}"
                for group, kinds in (("context", diffuser.context), ("data", diffuser.data))
                for kind in kinds
            ]
            raise ValueError(
                f'"{word}" chooses no layer: start with one of {", ".join([*kinds, "time_embed"])}, '
                "then :attn for example."
            )
        chosen |= set(found)
    return [name for name in find_adaptable(diffuser) if name in chosen]
