"""Map the keys of our layout to foreign ones, by pairs of prefixes made from the plan and the sizes.

A rule says that the keys which start with `ours` in our layout start with `theirs` in the foreign one, the
rest unchanged. The longest matching prefix wins, in both directions. Which rules make up a file is said in
`layouts.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import DiffuserConfig
from ..diffuser.plan import Step, plan


@dataclass(frozen=True)
class Rule:
    """ours, theirs: prefixes of keys (or whole keys).

    change: how the tensor differs there: "" not at all; "transposed"; "linear" = our 1x1 convolution as a
            matrix; "q", "k", "v" = a third of the rows of one joint tensor.
    also:   "" for the place itself; "copy" = a second copy in the same file, equal to it; "alias" = an older
            name for it.
    """

    ours: str
    theirs: str
    change: str = ""
    also: str = ""


class Place(NamedTuple):
    """A key of the foreign layout, how its tensor differs from ours, and whether it is a "copy" or an
    "alias".
    """

    key: str
    change: str
    also: str


def to_ours(change: str, tensor: Tensor) -> Tensor:
    """Reshape a foreign tensor as ours; one whose shape does not fit is left to the check of shapes."""
    if change == "transposed" and tensor.ndim == 2:
        return tensor.T.contiguous()
    if change == "linear" and tensor.ndim == 2:
        return tensor[:, :, None, None]
    if change in ("q", "k", "v") and tensor.ndim and len(tensor) % 3 == 0:
        return tensor.chunk(3)["qkv".index(change)]
    return tensor


def to_theirs(pieces: dict[str, Tensor]) -> Tensor:
    """Build the one foreign tensor from ours, which come by the change of their rules."""
    if "q" in pieces:
        return torch.cat([pieces[name] for name in "qkv"])
    ((change, tensor),) = pieces.items()
    if change == "transposed":
        return tensor.T.contiguous()
    if change == "linear" and tensor.ndim == 4:
        return tensor[:, :, 0, 0]
    return tensor


class KeyMap:
    """Renames keys by rules, in both directions."""

    def __init__(self, rules: Iterable[Rule]):
        self.by_ours: dict[str, list[Rule]] = {}
        self.by_theirs: dict[str, list[Rule]] = {}
        for rule in rules:
            self.by_ours.setdefault(rule.ours, []).append(rule)
            self.by_theirs.setdefault(rule.theirs, []).append(rule)

    def theirs(self, key: str) -> list[Place]:
        """Find where our key lies: the place itself first, then copies and aliases.

        Empty if the layout has no such tensor.
        """
        place: list[Place] = []
        others: list[Place] = []
        for prefix in list_prefixes(key):
            for rule in self.by_ours.get(prefix, ()):
                (others if rule.also else place).append(
                    Place(rule.theirs + key[len(prefix) :], rule.change, rule.also)
                )
        return place[:1] + others

    def ours(self, key: str) -> list[str]:
        """Find our keys for their key: several where theirs is joint, none where no rule knows it."""
        for prefix in list_prefixes(key):
            if prefix in self.by_theirs:
                return [rule.ours + key[len(prefix) :] for rule in self.by_theirs[prefix]]
        return []


def list_prefixes(key: str) -> Iterator[str]:
    """List all prefixes of a key, the longest first."""
    return (key[:end] for end in range(len(key), -1, -1))


def own(parts: Iterable[str]) -> Iterator[Rule]:
    """Map our own layout: every key is its own name."""
    for part in parts:
        yield Rule(f"{part}.", f"{part}.")


# Leaves of a data layer, by its role: (ours, official).
RES_LEAVES = (
    ("norm1.", "in_layers.0."),
    ("conv1.", "in_layers.2."),
    ("time_emb_proj.", "emb_layers.1."),
    ("norm2.", "out_layers.0."),
    ("conv2.", "out_layers.3."),
    ("conv_shortcut.", "skip_connection."),
)
LAST_LEAVES = (("norm.", "0."), ("proj.", "2."))
CONV_LEAVES = {"first": (("conv.", ""),), "down": (("conv.", "op."),), "up": (("conv.", "conv."),)}
LINEAR_LEAVES = (("linear.", ""),)


def official_leaves(step: Step, layers: str) -> tuple[tuple[str, str], ...]:
    """List the (ours, official) leaf prefixes of one data layer; `layers` is "2d" or "0d"."""
    if step.role == "res":
        return RES_LEAVES
    if step.role == "last":
        return LAST_LEAVES
    return CONV_LEAVES[step.role] if layers == "2d" else LINEAR_LEAVES


def list_layers(config: DiffuserConfig) -> list[Step]:
    """Return the steps of the plan that hold weights."""
    return [step for step in plan(config) if step.op in ("data", "context")]


def official_diffuser(config: DiffuserConfig) -> Iterator[Rule]:
    """Map `vd-four-flow-v1-0.pth`: flat lists of blocks; the time embedding lies in the image diffuser."""
    yield from time_embedding("diffuser.image.time_embed.")
    for step in list_layers(config):
        if step.op == "context":
            for kind in config.context:
                yield Rule(
                    f"diffuser.context.{kind}.{step.index}.",
                    f"diffuser.{kind}.context_blocks.{step.index}.0.",
                )
            continue
        for kind, data in config.data.items():
            for ours, theirs in official_leaves(step, data.layers):
                yield Rule(
                    f"diffuser.data.{kind}.{step.index}.{ours}",
                    f"diffuser.{kind}.data_blocks.{step.index}.0.{theirs}",
                )


def time_embedding(prefix: str) -> Iterator[Rule]:
    """Map the official names of the time embedding's two linear layers."""
    yield Rule("diffuser.time_embed.linear_1.", f"{prefix}0.")
    yield Rule("diffuser.time_embed.linear_2.", f"{prefix}2.")


def deprecated_blocks(layers: Iterable[Step]) -> Iterator[tuple[Step, str]]:
    """Name the blocks of the first release.

    A residual block, its context layer and its upsampler share one numbered block.
    """
    stage, block, inner = "", -1, -1
    for step in layers:
        if step.stage != stage:
            stage, block, inner = step.stage, -1, -1
        opens = stage != "mid" and step.op == "data" and step.role != "up"
        block, inner = (block + 1, 0) if opens else (block, inner + 1)
        names = {
            "in": f"input_blocks.{block}.{inner}.",
            "mid": f"middle_block.{inner}.",
            "out": f"output_blocks.{block}.{inner}.",
        }
        yield step, "out." if step.role == "last" else names[stage]


def deprecated_diffuser(config: DiffuserConfig) -> Iterator[Rule]:
    """Map the first release (2022): two whole UNets, the time embedding beside them."""
    root = "model.diffusion_model."
    yield from time_embedding(f"{root}time_embed.")
    for step, block in deprecated_blocks(list_layers(config)):
        if step.op == "context":
            for kind in config.context:
                yield Rule(f"diffuser.context.{kind}.{step.index}.", f"{root}unet_{kind}.{block}")
            continue
        for kind, data in config.data.items():
            for ours, theirs in official_leaves(step, data.layers):
                yield Rule(f"diffuser.data.{kind}.{step.index}.{ours}", f"{root}unet_{kind}.{block}{theirs}")


def unet_model(
    config: DiffuserConfig, data: str, contexts: Iterable[str], prefix: str = ""
) -> Iterator[Rule]:
    """Map one 2D output kind to Stable Diffusion's names (UNetModel).

    "text" contexts lie where SD's transformers lie, each other kind beside them under its own name.
    """
    yield from time_embedding(f"{prefix}time_embed.")
    for step, block in deprecated_blocks(list_layers(config)):
        if step.op == "context":
            for kind in contexts:
                yield Rule(
                    f"diffuser.context.{kind}.{step.index}.",
                    f"{prefix}{block}{'' if kind == 'text' else f'{kind}.'}",
                )
            continue
        for ours, theirs in official_leaves(step, "2d"):
            yield Rule(f"diffuser.data.{data}.{step.index}.{ours}", f"{prefix}{block}{theirs}")


def diffusers_block(step: Step, levels: int) -> str:
    """Name the block of one layer in a diffusers UNet; up blocks are numbered in running order."""
    if step.role == "first":
        return "conv_in."
    stage = {
        "in": f"down_blocks.{step.level}.",
        "mid": "mid_block.",
        "out": f"up_blocks.{levels - 1 - step.level}.",
    }[step.stage]
    group = {"res": "resnets", "down": "downsamplers", "up": "upsamplers", "": "attentions"}[step.role]
    return f"{stage}{group}.{step.block}."


def diffusers_unet(
    config: DiffuserConfig, kind: str, contexts: Mapping[str, str], prefix: str = "", also: str = ""
) -> Iterator[Rule]:
    """Map one UNet of a diffusers folder: data layers of one kind, contexts, a copy of the time embedding.

    contexts: the kinds of contexts that lie in it, each with its place inside an attention ("" if it is the
              only one). Kinds that the model does not have are left out.
    """
    for linear in ("linear_1.", "linear_2."):
        yield Rule(f"diffuser.time_embed.{linear}", f"{prefix}time_embedding.{linear}", also=also)
    for step in list_layers(config):
        theirs = prefix + ("" if step.role == "last" else diffusers_block(step, len(config.channel_mult)))
        ours = f"diffuser.data.{kind}.{step.index}."
        if step.op == "context":
            for context, inside in contexts.items():
                if context in config.context:
                    yield Rule(f"diffuser.context.{context}.{step.index}.", theirs + inside)
        elif kind not in config.data:
            continue
        elif step.role == "last":
            yield Rule(f"{ours}norm.", f"{theirs}conv_norm_out.")
            yield Rule(f"{ours}proj.", f"{theirs}conv_out.")
        elif step.role == "res":
            yield Rule(ours, theirs)
        elif config.data[kind].layers == "0d":
            yield Rule(f"{ours}linear.", theirs)
        else:
            yield Rule(f"{ours}conv.", theirs if step.role == "first" else f"{theirs}conv.")
