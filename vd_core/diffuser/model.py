"""The diffuser: global, data and context layers, and the one walk through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import DiffuserConfig
from .compiled import Compiled
from .context_layers import ContextLayer
from .data import data_layers
from .layers import Memory, TimeEmbedding, repeat
from .mixing import Mixing, Ratio, attention_mixing
from .plan import Step, plan


class Reading(NamedTuple):
    """One context as the diffuser reads it.

    kind:     names the context layers.
    tokens:   [rows, n, d], one row for each sample of each evaluation, or fewer: then each for as many consecutive samples.
    ratio:    its share, a number or a map [1 or B, 1, height, width]; the shares of all add up to 1.
    emphasis: how often each token counts, [rows, n]; None = once.
    silent:   the first evaluations, so many, read zeros instead and have no rows. To the bit what rows of zeros give, with less work.
    memory:   keeps keys and values of the tokens, by layer, from call to call: an empty dictionary that stays with these tokens and
              these weights. None = they are computed in every call.
    """

    kind: str
    tokens: Tensor
    ratio: Ratio
    emphasis: Tensor | None = None
    silent: int = 0
    memory: dict[int, Memory] | None = None


class Diffuser(nn.Module):
    """Multi-flow diffuser (VD paper, section 3.2): a flow = global layers + data layers of its output + context layers it reads.

    data, contexts: the kinds to build; all of the config by default, so that a flow can leave out layers it does not need.
    ops:            namespace of Linear, Conv2d, GroupNorm, LayerNorm; `torch.nn`, or a host's castable and offloadable ones.
    """

    def __init__(self, config: DiffuserConfig, data: Iterable[str] | None = None, contexts: Iterable[str] | None = None, ops=nn):
        super().__init__()
        self.config = config
        self.plan = tuple(plan(config))
        self.time_embed = TimeEmbedding(config.model_channels, ops)
        self.data = nn.ModuleDict({kind: data_layers(config, kind, ops) for kind in (config.data if data is None else data)})
        self.context = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    ContextLayer(step.outputs, config.num_heads, config.context[kind], ops) for step in self.plan if step.op == "context"
                )
                for kind in (config.context if contexts is None else contexts)
            }
        )
        self.compiled: Compiled | None = None
        self.eval()

    def compile(self, mode: str | None = None, backend: str | Callable = "inductor") -> None:
        """Compile the walk when it is first needed, which takes minutes, and run it so from then on; see `Compiled`.

        It stays as it is where layers are drawn or looked at on the way: with another mixing than the usual one, or a trace.
        """
        self.compiled = Compiled(Diffuser.walk, mode, backend)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        contexts: Sequence[Reading | tuple[str, Tensor, Ratio]],
        data: str,
        mixing: Mixing = attention_mixing,
        trace: Callable[[Step, Tensor], None] | None = None,
        evaluations: int = 1,
    ) -> Tensor:
        """Predict the noise (or v, see `ScheduleConfig.prediction`).

        x:           noisy latent of kind `data`, scaled: [B, C, H, W] for 2D data, [B, C] for 0D.
        t:           timesteps [B], 0..999, or [1] for all.
        contexts:    a `Reading` each, or its first three entries; any number, kinds may repeat.
        trace:       called with every step that ran a layer and its output.
        evaluations: how often x is evaluated, each time under its own rows of the contexts (guidance: twice).

        Returns the predictions, one evaluation after the other: [evaluations * B, …]. Raises ValueError for missing contexts, kinds
        that were not built, and shapes that do not fit.
        """
        readings = [Reading(*context) for context in contexts]
        self.check(x, readings, data, evaluations)
        if self.compiled is None or trace is not None or mixing is not attention_mixing:
            return self.walk(x, t, readings, data, evaluations, mixing, trace)
        for reading in readings:
            for index in range(len(self.context[reading.kind])):
                self.remembered(reading, index)
        return self.compiled(self, x, t, readings, data, evaluations)

    def walk(
        self,
        x: Tensor,
        t: Tensor,
        readings: Sequence[Reading],
        data: str,
        evaluations: int,
        mixing: Mixing = attention_mixing,
        trace: Callable[[Step, Tensor], None] | None = None,
    ) -> Tensor:
        """`forward` of arguments that fit together."""
        emb = self.time_embed(t, x.dtype)
        layers = self.data[data]
        tokens = [(reading.tokens, reading.ratio) for reading in readings]
        h, saved, ahead = x, [], evaluations  # until the first context layer reads, all evaluations are one
        for step in self.plan:
            if step.op == "save":
                saved.append(h)
                continue
            if step.op == "load":
                skip = saved.pop()
                h = torch.cat([h, repeat(skip, len(h) // len(skip))], dim=1)
                continue
            if step.op == "context":
                h = mixing(h, [partial(self.read, reading=r, index=step.index, evaluations=ahead, batch=len(x)) for r in readings], tokens)
                emb, ahead = emb if len(emb) == 1 else repeat(emb, ahead), 1
            else:
                h = layers[step.index](h, emb) if step.role == "res" else layers[step.index](h)
            if trace is not None:
                trace(step, h)
        return h

    def read(self, h: Tensor, tokens: Tensor, reading: Reading, index: int, evaluations: int, batch: int) -> Tensor:
        """A context layer reads the tokens of a reading, or what it remembers of them."""
        context = self.remembered(reading, index) or tokens
        return self.context[reading.kind][index](h, context, reading.emphasis, evaluations, reading.silent * batch)

    def remembered(self, reading: Reading, index: int) -> Memory | None:
        """Keys and values of a reading's tokens in one layer, from its memory; None if it has none."""
        if reading.memory is not None and index not in reading.memory:
            reading.memory[index] = self.context[reading.kind][index].memory(reading.tokens)
        return reading.memory and reading.memory[index]

    def check(self, x: Tensor, contexts: Sequence[Reading], data: str, evaluations: int) -> None:
        """Raise a ValueError that names what does not fit together."""
        if data not in self.data:
            raise ValueError(f'This diffuser has no data layers for "{data}"; it has: {", ".join(self.data) or "none"}.')
        sizes = self.config.data[data]
        if x.ndim != (4 if sizes.layers == "2d" else 2) or x.shape[1] != sizes.channels:
            wanted = f"[batch, {sizes.channels}, height, width]" if sizes.layers == "2d" else f"[batch, {sizes.channels}]"
            raise ValueError(f"The {data} flow needs a latent {wanted}, got {list(x.shape)}.")
        divisor = 2 ** (len(self.config.channel_mult) - 1)
        if any(side % divisor for side in x.shape[2:]):
            raise ValueError(f"The sides of a latent must be divisible by {divisor}, got {list(x.shape[2:])}.")
        if not contexts:
            raise ValueError("The diffuser needs at least one context.")
        for kind, tokens, _, _, silent, _ in contexts:
            if kind not in self.context:
                raise ValueError(f'This diffuser has no context layers for "{kind}"; it has: {", ".join(self.context) or "none"}.')
            if tokens.shape[-1] != self.config.context[kind]:
                raise ValueError(f"The {kind} context layers read tokens of width {self.config.context[kind]}, got {tokens.shape[-1]}.")
            if (evaluations - silent) * len(x) % len(tokens):
                raise ValueError(f"{len(tokens)} rows of tokens cannot be shared by {(evaluations - silent) * len(x)} samples.")
