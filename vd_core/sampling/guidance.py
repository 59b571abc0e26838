"""Classifier-free guidance: make `denoise(x, t)`, all that a sampler sees, of a diffuser, contexts and a
scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from ..context import Blend, Context, local_ratios, ratios
from ..diffuser.kv_cache import KVCache
from .corrections import PLAIN, GuidanceOptions
from .samplers import Denoise, predict_x0
from .schedule import Schedule


def guidance_chain(scales: Sequence[float]) -> tuple[list[int], list[float]]:
    """Find the network evaluations that guided contexts need, and the scales of their differences.

    Let e_k be the prediction with the first k contexts conditional and the others unconditional. With one
    scale per context

        e = e_0 + Σ_k scale_k (e_k - e_{k-1})            (InstructPix2Pix, Brooks et al. 2023, eq. 3)

    which for equal scales is the usual e_u + s (e_c - e_u). Neighbours of equal scale need no evaluation
    between them, a leading scale 1 needs no e_0, trailing zeros need no evaluation of their own.

    Returns the kept k in ascending order, and between each neighbouring pair its scale: scale 1 throughout
    gives ([n], []).
    """
    kept = [0]
    differences: list[float] = []
    for k, scale in enumerate(scales, start=1):
        if differences and differences[-1] == scale:
            kept[-1] = k
        else:
            kept.append(k)
            differences.append(scale)
    if len(differences) > 1 and differences[-1] == 0 or differences == [0]:
        kept.pop()
        differences.pop()
    if differences and differences[0] == 1:
        kept.pop(0)
        differences.pop(0)
    return kept, differences


def combine(outputs: Sequence[Tensor], differences: Sequence[float]) -> Tensor:
    """Sum up the outputs of the evaluations of a `guidance_chain`, in their order."""
    prediction = outputs[0]
    for scale, before, after in zip(differences, outputs, outputs[1:], strict=False):
        prediction = prediction + scale * (after - before)
    return prediction


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
    weights, regions = ratios(contexts), [context.region for context in contexts]
    if isinstance(cfg, Sequence):
        scales, own = [float(scale) for scale in cfg], [1.0] * len(contexts)
    else:
        scales, own = (
            [cfg * context.guidance for context in contexts],
            [context.guidance for context in contexts],
        )
    if len(scales) != len(contexts):
        raise ValueError(f"There are {len(contexts)} contexts but {len(scales)} guidance scales.")
    inside, outside = guidance_chain(scales), guidance_chain([1.0] * len(contexts))
    reference = guidance_chain(own)  # at cfg 1
    compares = guidance.needs_conditional and bool(inside[1]) and inside != reference

    @cache
    def stack_all(
        kept: tuple[int, ...], batch: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[list[Context], list[KVCache]]:
        """Stack every context for the evaluations e_k of a batch, with caches of their own."""
        sides = [[number < k for k in kept] for number in range(len(contexts))]
        stacked = [stack(context, side, batch) for context, side in zip(contexts, sides, strict=True)]
        return [context.to(device, dtype) for context, _ in stacked], [kv_cache for _, kv_cache in stacked]

    def denoise(x: Tensor, t: float) -> Tensor:
        progress = schedule.progress(t)
        guides = guidance.guides(progress)
        chain = inside if guides else outside
        kept = tuple(sorted({*chain[0], *reference[0]})) if guides and compares else tuple(chain[0])
        stacked, caches = stack_all(kept, len(x), dtype or x.dtype, x.device)
        shares = local_ratios(weights, regions, progress, len(x), x.shape[2:])
        timestep = torch.full((1,), t, device=x.device)
        predictions = diffuser(
            x.to(dtype or x.dtype),
            timestep,
            stacked,
            data,
            evaluations=len(kept),
            shares=shares,
            caches=caches,
        ).to(x.dtype)
        outputs = dict(zip(kept, predictions.chunk(len(kept)), strict=True))

        def eps(kept: Sequence[int], differences: Sequence[float]) -> Tensor:
            return schedule.to_eps(x, combine([outputs[k] for k in kept], differences), t)

        if not guidance.corrects:
            return eps(*chain)
        conditional = eps(*reference) if guides and compares else None
        return correct_eps(guidance, eps(*chain), conditional, x, schedule.alpha(t))

    return denoise


def stack(context: Context, conditional: Sequence[bool], batch: int) -> tuple[Context, KVCache]:
    """Stack a context's tokens for the evaluations of one batch, one after the other, with one row or `batch`
    rows for each.

    conditional: for each evaluation whether it reads the tokens or the unconditional ones. Unconditional
                 evaluations come first; where they read zeros they get no rows, but for one evaluation at
                 least.

    Raises ValueError for a context with another number of samples than 1 and `batch`.
    """
    weighted = context.token_weights is not None or context.null_token_weights is not None
    ones = context.tokens.new_ones(1, context.tokens.shape[1])
    sides = [
        (tokens, ones if weights is None else weights)
        for tokens, weights in (
            (context.unconditional, context.null_token_weights),
            (context.tokens, context.token_weights),
        )
    ]
    samples = max(len(part) for side in sides for part in side)
    if samples not in (1, batch):
        raise ValueError(f"The {context.kind} context has {samples} samples, the latent has {batch}.")
    zeros = min(conditional.count(False), len(conditional) - 1) if context.null is None else 0
    rows = [sides[side] for side in conditional[zeros:]]
    tokens, weights = (
        torch.cat([side[part].expand(samples, *side[part].shape[1:]) for side in rows]) for part in (0, 1)
    )
    return Context(context.kind, tokens, token_weights=weights if weighted else None), KVCache(zeros)


def correct_eps(
    guidance: GuidanceOptions, eps: Tensor, conditional: Tensor | None, x: Tensor, alpha: float
) -> Tensor:
    """Correct eps by the data that it predicts for x at `alpha`; conditional: see `GuidanceOptions.correct`,
    as eps."""
    x0 = predict_x0(x, eps, alpha)
    target = None if conditional is None else predict_x0(x, conditional, alpha)
    change = guidance.correct(x0, target, sqrt(alpha) * x) - x0
    return eps - sqrt(alpha / (1 - alpha)) * change  # where nothing is corrected, eps keeps every bit
