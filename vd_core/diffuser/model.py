"""The diffuser: global, data and context layers, and the one walk through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..config import DiffuserConfig
from ..context import Context, compute_ratios
from .compiled import Compiled
from .context_layers import ContextLayer
from .data import build_data_layers
from .kv_cache import KeysValues, KVCache
from .layers import TimeEmbedding, repeat
from .mixing import Layer, Mixing, Share, add_share, attention_mixing
from .plan import Step, plan

PIXELS = 8  # of a picture's side for one of its latent, in all autoencoders


class Diffuser(nn.Module):
    """Multi-flow diffuser (VD paper, section 3.2): a flow = global layers + data layers of its output +
    context layers it reads.

    data, contexts: the kinds to build; all of the config by default. A flow can leave out layers that it does
                    not need.
    ops:            namespace of Linear, Conv2d, GroupNorm, LayerNorm; `torch.nn`, or a host's castable and
                    offloadable ones.
    """

    def __init__(
        self,
        config: DiffuserConfig,
        data: Iterable[str] | None = None,
        contexts: Iterable[str] | None = None,
        ops=nn,
    ):
        super().__init__()
        self.config = config
        self.plan = tuple(plan(config))
        self.time_embed = TimeEmbedding(config.model_channels, ops)
        self.data = nn.ModuleDict(
            {kind: build_data_layers(config, kind, ops) for kind in (config.data if data is None else data)}
        )
        self.context = nn.ModuleDict(
            {
                kind: nn.ModuleList(
                    ContextLayer(step.outputs, config.num_heads, config.context[kind], ops)
                    for step in self.plan
                    if step.op == "context"
                )
                for kind in (config.context if contexts is None else contexts)
            }
        )
        self.compiled: Compiled | None = None
        self.eval()

    def compile(self, mode: str | None = None, backend: str | Callable = "inductor") -> None:
        """Compile the walk at its first call, which takes minutes; see `Compiled`.

        Calls with a trace, or with another mixing than attention_mixing, still run uncompiled.
        """
        self.compiled = Compiled(Diffuser.walk, mode, backend)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        contexts: Sequence[Context],
        data: str,
        mixing: Mixing = attention_mixing,
        trace: Callable[[Step, Tensor], None] | None = None,
        evaluations: int = 1,
        shares: Sequence[Share] | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Predict the noise (or v, see `ScheduleConfig.prediction`).

        x:           noisy latent of kind `data`, scaled: [B, C, H, W] for 2D data, [B, C] for 0D.
        t:           timesteps [B], 0..999, or [1] for all.
        contexts:    any number, kinds may repeat. Their tokens and token weights are read, with one row for
                     each sample of each evaluation, or fewer: then each row for as many consecutive samples.
        trace:       called with every step that ran a layer and its output.
        evaluations: how often x is evaluated, each time under its own rows of the contexts (guidance: twice).
        shares:      of the contexts, numbers or maps [1 or B, 1, height, width]; by default their weights
                     over the sum.
        caches:      keep what the layers compute of each context alone from call to call; None = computed in
                     every call.

        Returns the predictions, one evaluation after the other: [evaluations * B, …]. Raises ValueError for
        missing contexts, kinds that were not built, and shapes that do not fit.
        """
        kept: Sequence[KVCache | None] = [None] * len(contexts) if caches is None else caches
        self.check(x, contexts, data, evaluations, kept)
        shares = compute_ratios(contexts) if shares is None else shares
        if self.compiled is None or trace is not None or mixing is not attention_mixing:
            return self.walk(x, t, contexts, data, evaluations, shares, kept, mixing, trace)
        chosen = attention_mixing(list(zip(contexts, kept, strict=True)), shares)
        contexts, kept = [context for (context, _), _ in chosen], [cache for (_, cache), _ in chosen]
        for context, cache in zip(contexts, kept, strict=True):
            for index in range(len(cast(nn.ModuleList, self.context[context.kind]))):
                self.keys_values(context, cache, index)
        # A number that changes would cut what torch 2.6 captures into pieces, a tensor does not.
        dtype = torch.promote_types(x.dtype, torch.float32)
        shares = [
            1.0 if share is None else torch.as_tensor(share, dtype=dtype).to(x.device) for _, share in chosen
        ]
        return self.compiled(self, x, t, contexts, data, evaluations, shares, kept)

    def walk(
        self,
        x: Tensor,
        t: Tensor,
        contexts: Sequence[Context],
        data: str,
        evaluations: int,
        shares: Sequence[Share],
        caches: Sequence[KVCache | None],
        mixing: Mixing = attention_mixing,
        trace: Callable[[Step, Tensor], None] | None = None,
    ) -> Tensor:
        """Run the layers in the order of the plan, with arguments of `forward` that fit together."""
        emb = self.time_embed(t, x.dtype)
        layers = cast(nn.ModuleList, self.data[data])
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
                bound = self.context_layers(step.index, contexts, caches, ahead, len(x))
                mixed: Tensor | None = None
                for layer, share in mixing(bound, shares):
                    mixed = add_share(mixed, layer(h), share)
                h = cast(Tensor, mixed)
                emb, ahead = emb if len(emb) == 1 else repeat(emb, ahead), 1
            else:
                h = layers[step.index](h, emb) if step.role == "res" else layers[step.index](h)
            if trace is not None:
                trace(step, h)
        return h

    def context_layers(
        self,
        index: int,
        contexts: Sequence[Context],
        caches: Sequence[KVCache | None],
        evaluations: int,
        batch: int,
    ) -> list[Layer]:
        """Bind the context layers of one place to what they read: h -> h, one per context."""
        return [
            partial(
                self.context_layer(context.kind, index),
                context=self.keys_values(context, cache, index),
                token_weights=context.token_weights,
                evaluations=evaluations,
                zero_samples=0 if cache is None else cache.zero_evaluations * batch,
            )
            for context, cache in zip(contexts, caches, strict=True)
        ]

    def context_layer(self, kind: str, index: int) -> ContextLayer:
        """Return the context layer of a kind at one place."""
        return cast(ContextLayer, cast(nn.ModuleList, self.context[kind])[index])

    def keys_values(self, context: Context, cache: KVCache | None, index: int) -> Tensor | KeysValues:
        """Take keys and values of a context's tokens in one layer from its cache; the tokens themselves where
        there is none."""
        if cache is None:
            return context.tokens
        if index not in cache.layers:
            cache.layers[index] = self.context_layer(context.kind, index).keys_values(context.tokens)
        return cache.layers[index]

    def check(
        self,
        x: Tensor,
        contexts: Sequence[Context],
        data: str,
        evaluations: int,
        caches: Sequence[KVCache | None],
    ) -> None:
        """Raise a ValueError that names what does not fit together."""
        if data not in self.data:
            raise ValueError(
                f'This diffuser has no data layers for "{data}"; it has: {", ".join(self.data) or "none"}.'
            )
        sizes = self.config.data[data]
        if x.ndim != (4 if sizes.layers == "2d" else 2) or x.shape[1] != sizes.channels:
            wanted = (
                f"[batch, {sizes.channels}, height, width]"
                if sizes.layers == "2d"
                else f"[batch, {sizes.channels}]"
            )
            raise ValueError(f"The {data} flow needs a latent {wanted}, got {list(x.shape)}.")
        divisor = 2 ** (len(self.config.channel_mult) - 1)
        if any(side % divisor for side in x.shape[2:]):
            height, width = x.shape[2:]
            raise ValueError(
                f"The sides of a picture must be divisible by {PIXELS * divisor} pixels, got "
                f"{PIXELS * width}x{PIXELS * height} (a latent of {width}x{height})."
            )
        if not contexts:
            raise ValueError("The diffuser needs at least one context.")
        for context, cache in zip(contexts, caches, strict=True):
            kind, rows, width = context.kind, len(context.tokens), context.tokens.shape[-1]
            if kind not in self.context:
                kinds = ", ".join(self.context) or "none"
                raise ValueError(f'This diffuser has no context layers for "{kind}"; it has: {kinds}.')
            if width != self.config.context[kind]:
                read = self.config.context[kind]
                raise ValueError(f"The {kind} context layers read tokens of width {read}, got {width}.")
            samples = (evaluations - (0 if cache is None else cache.zero_evaluations)) * len(x)
            if samples % rows:
                raise ValueError(f"{rows} rows of tokens cannot be shared by {samples} samples.")
