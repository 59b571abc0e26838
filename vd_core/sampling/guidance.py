"""Classifier-free guidance: turn a diffuser, contexts and a scale into the `denoise(x, t)` of samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..context import Blend, Context, compute_ratios
from ..diffuser.kv_cache import KVCache
from ..regions import compute_local_ratios
from .corrections import PLAIN, GuidanceOptions
from .samplers import Denoise, predict_x0
from .schedule import Schedule


class GuidanceChain(NamedTuple):
    """Network evaluations of guided contexts, and the scales of their differences.

    Let e_k be the prediction with the first k contexts conditional and the others unconditional. With one
    scale per context

        e = e_0 + Σ_k scale_k (e_k - e_{k-1})            (InstructPix2Pix, Brooks et al. 2023, eq. 3)

    which for equal scales is the usual e_u + s (e_c - e_u). Evaluations that cancel out are left out.

    evaluated: the numbers k of the evaluations, ascending.
    scales:    one between each neighbouring pair of them.
    """

    evaluated: list[int]
    scales: list[float]

    def combine(self, outputs: Mapping[int, Tensor]) -> Tensor:
        """Compute e from the outputs of the evaluations, by their numbers."""
        prediction = outputs[self.evaluated[0]]
        for scale, before, after in zip(self.scales, self.evaluated, self.evaluated[1:], strict=False):
            prediction = prediction + scale * (outputs[after] - outputs[before])
        return prediction


def plan_evaluations(scales: Sequence[float]) -> GuidanceChain:
    """Find the evaluations that contexts of these scales need.

    Neighbours of equal scale need none between them, a leading scale 1 needs no e_0, trailing zeros need
    none of their own: scale 1 throughout gives ([n], []).
    """
    evaluated = [0]
    differences: list[float] = []
    for k, scale in enumerate(scales, start=1):
        if differences and differences[-1] == scale:
            evaluated[-1] = k
        else:
            evaluated.append(k)
            differences.append(scale)
    if len(differences) > 1 and differences[-1] == 0 or differences == [0]:
        evaluated.pop()
        differences.pop()
    if differences and differences[0] == 1:
        evaluated.pop(0)
        differences.pop(0)
    return GuidanceChain(evaluated, differences)


def guide(
    diffuser: Callable[..., Tensor],
    schedule: Schedule,
    contexts: Blend,
    data: str,
    cfg: float | Sequence[float] = 7.5,
    guidance: GuidanceOptions = PLAIN,
    dtype: torch.dtype | None = None,
) -> Denoise:
    """Make denoise(x [B, …], t) -> eps [B, …] for one kind of output under any number of contexts.

    diffuser: a `Diffuser`, or what is called as one.
    cfg:      one scale, which is multiplied by each context's own `guidance`, or one per context; scale 1
              costs one evaluation and ignores the unconditional tokens.
    guidance: when the scales act, and corrections of what they do; these compare with the prediction at
              cfg 1.
    dtype:    in which the diffuser computes; None = that of x, in which `denoise` answers in any case.

    The evaluations of one step run as one batch, unconditional first, like the official code's. What the
    diffuser makes of the contexts alone is kept from step to step, so its weights must stay as they are.

    Raises ValueError for a blend without weight, or a number of scales that is not the number of contexts;
    `denoise` raises it for a context of another batch size than x.
    """
    weights, regions = compute_ratios(contexts), [context.region for context in contexts]
    if isinstance(cfg, Sequence):
        scales, scales_at_1 = [float(scale) for scale in cfg], [1.0] * len(contexts)
    else:
        scales_at_1 = [context.guidance for context in contexts]
        scales = [cfg * scale for scale in scales_at_1]
    if len(scales) != len(contexts):
        raise ValueError(f"There are {len(contexts)} contexts but {len(scales)} guidance scales.")
    guided, at_cfg_1 = plan_evaluations(scales), plan_evaluations(scales_at_1)
    unguided = plan_evaluations([1.0] * len(contexts))
    comparable = guidance.needs_conditional and bool(guided.scales) and guided != at_cfg_1
    stack_once = cache(partial(stack_contexts, contexts))

    def denoise(x: Tensor, t: float) -> Tensor:
        progress, compute_dtype = schedule.progress(t), dtype or x.dtype
        guides = guidance.guides(progress)
        chain, compares = guided if guides else unguided, guides and comparable
        evaluated = sorted({*chain.evaluated, *at_cfg_1.evaluated}) if compares else chain.evaluated
        stacked, caches = stack_once(tuple(evaluated), len(x), compute_dtype, x.device)
        predictions = diffuser(
            x.to(compute_dtype),
            torch.full((1,), t, device=x.device),
            stacked,
            data,
            evaluations=len(evaluated),
            shares=compute_local_ratios(weights, regions, progress, len(x), x.shape[2:]),
            caches=caches,
        ).to(x.dtype)
        outputs = dict(zip(evaluated, predictions.chunk(len(evaluated)), strict=True))
        eps = schedule.to_eps(x, chain.combine(outputs), t)
        if not guidance.corrects:
            return eps
        conditional = schedule.to_eps(x, at_cfg_1.combine(outputs), t) if compares else None
        return correct_eps(guidance, eps, conditional, x, schedule.alpha(t))

    return denoise


def stack_contexts(
    contexts: Blend, evaluated: Sequence[int], batch: int, dtype: torch.dtype, device: torch.device
) -> tuple[list[Context], list[KVCache]]:
    """Stack each context for the evaluations e_k of a batch, and give each a cache of its own."""
    stacked, caches = [], []
    for number, context in enumerate(contexts):
        rows, kv_cache = stack(context, [number < k for k in evaluated], batch)
        stacked.append(rows.to(device, dtype))
        caches.append(kv_cache)
    return stacked, caches


def stack(context: Context, conditional: Sequence[bool], batch: int) -> tuple[Context, KVCache]:
    """Stack a context's tokens for the evaluations of one batch, with one row or `batch` rows for each.

    conditional: for each evaluation whether it reads the tokens or the unconditional ones. Unconditional
                 evaluations come first; where they read zeros they get no rows, but one evaluation always
                 has some.

    Raises ValueError for a context with another number of samples than 1 and `batch`.
    """
    ones = context.tokens.new_ones(1, context.tokens.shape[1])
    token_weights, null_token_weights = context.token_weights, context.null_token_weights
    given = (context.tokens, ones if token_weights is None else token_weights)
    unconditional = (context.unconditional, ones if null_token_weights is None else null_token_weights)
    samples = max(len(part) for part in (*given, *unconditional))
    if samples not in (1, batch):
        raise ValueError(f"The {context.kind} context has {samples} samples, the latent has {batch}.")
    zeros = min(conditional.count(False), len(conditional) - 1) if context.null is None else 0
    rows = [given if is_conditional else unconditional for is_conditional in conditional[zeros:]]
    tokens, weights = (
        torch.cat([part.expand(samples, *part.shape[1:]) for part in parts])
        for parts in zip(*rows, strict=True)
    )
    weighted = token_weights is not None or null_token_weights is not None
    return Context(context.kind, tokens, token_weights=weights if weighted else None), KVCache(zeros)


def correct_eps(
    guidance: GuidanceOptions, eps: Tensor, conditional: Tensor | None, x: Tensor, alpha: float
) -> Tensor:
    """Correct eps by the data that it predicts for x at `alpha`.

    conditional: as in `GuidanceOptions.correct`, but eps.
    """
    x0 = predict_x0(x, eps, alpha)
    target = None if conditional is None else predict_x0(x, conditional, alpha)
    change = guidance.correct(x0, target, sqrt(alpha) * x) - x0
    return eps - sqrt(alpha / (1 - alpha)) * change  # where nothing is corrected, eps keeps every bit
