"""Classifier-free guidance: diffuser + contexts + scale -> `denoise(x, t)`, all that a sampler sees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from ..context import Blend, local_ratios, ratios
from ..diffuser.model import Diffuser, Reading
from .corrections import PLAIN, GuidanceOptions
from .samplers import Denoise, predict_x0
from .schedule import Schedule


def guidance_chain(scales: Sequence[float]) -> tuple[list[int], list[float]]:
    """The network evaluations that guided contexts need, and the scales of their differences.

    Let e_k be the prediction with the first k contexts conditional and the others unconditional. With one scale per context

        e = e_0 + Σ_k scale_k (e_k - e_{k-1})            (InstructPix2Pix, Brooks et al. 2023, eq. 3)

    which for equal scales is the usual e_u + s (e_c - e_u). Neighbours of equal scale need no evaluation between them, a leading
    scale 1 needs no e_0, trailing zeros need no evaluation of their own.

    Returns the kept k in ascending order, and between each neighbouring pair its scale: scale 1 throughout gives ([n], []).
    """
    kept, differences = [0], []
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
    """The sum of `guidance_chain` from the outputs of its evaluations, in their order."""
    prediction = outputs[0]
    for scale, before, after in zip(differences, outputs, outputs[1:], strict=False):
        prediction = prediction + scale * (after - before)
    return prediction


def guide(
    diffuser: Diffuser,
    schedule: Schedule,
    contexts: Blend,
    data: str,
    cfg: float | Sequence[float] = 7.5,
    guidance: GuidanceOptions = PLAIN,
) -> Denoise:
    """Return denoise(x [B, …], t) -> eps [B, …] for one kind of output under any number of contexts.

    cfg:      one scale, which is multiplied by each context's own `guidance`, or one per context; scale 1 costs one evaluation and
              ignores the unconditional tokens.
    guidance: when the scales act, and corrections of what they do; these compare with the prediction at cfg 1.
    The evaluations of one step run as one batch, unconditional first, like the official code's. What the diffuser makes of the contexts
    alone is kept from step to step, so its weights must stay as they are.

    Raises ValueError for a blend without weight, or a number of scales that is not the number of contexts; `denoise` raises it for a
    context of another batch size than x.
    """
    shares = ratios(contexts)
    scales = [cfg * context.guidance for context in contexts] if isinstance(cfg, int | float) else [float(scale) for scale in cfg]
    if len(scales) != len(contexts):
        raise ValueError(f"There are {len(contexts)} contexts but {len(scales)} guidance scales.")
    inside, outside = guidance_chain(scales), guidance_chain([1.0] * len(contexts))
    reference = guidance_chain([context.guidance for context in contexts]) if isinstance(cfg, int | float) else outside
    compares = guidance.compares and bool(inside[1]) and inside != reference

    @cache
    def reading(number: int, kept: tuple[int, ...], batch: int, dtype: torch.dtype, device: torch.device) -> Reading:
        """One context for all evaluations of a batch."""
        context = contexts[number]
        weighted = context.emphasis is not None or context.null_emphasis is not None
        plain = context.tokens.new_ones(1, context.tokens.shape[1])
        sides = [(context.unconditional, context.null_emphasis), (context.tokens, context.emphasis)]
        sides = [(tokens, plain if emphasis is None else emphasis) for tokens, emphasis in sides]
        samples = max(len(part) for side in sides for part in side)
        if samples not in (1, batch):
            raise ValueError(f"The {context.kind} context has {samples} samples, the latent has {batch}.")
        # The first evaluations are the unconditional ones; one at least has tokens.
        silent = min(sum(k <= number for k in kept), len(kept) - 1) if context.null is None else 0
        rows = [sides[number < k] for k in kept[silent:]]
        tokens, emphasis = (torch.cat([side[part].expand(samples, *side[part].shape[1:]) for side in rows]) for part in (0, 1))
        emphasis = emphasis.to(device, dtype) if weighted else None
        return Reading(context.kind, tokens.to(device, dtype), 0.0, emphasis, silent, memory={})

    def evaluate(x: Tensor, t: float, kept: list[int]) -> dict[int, Tensor]:
        """The predictions e_k, as one batch."""
        local = local_ratios(shares, [context.region for context in contexts], schedule.progress(t), len(x), x.shape[2:])
        readings = [reading(number, tuple(kept), len(x), x.dtype, x.device)._replace(ratio=share) for number, share in enumerate(local)]
        outputs = diffuser(x, torch.full((1,), t, device=x.device), readings, data, evaluations=len(kept)).chunk(len(kept))
        return dict(zip(kept, outputs, strict=True))

    def denoise(x: Tensor, t: float) -> Tensor:
        guides = guidance.guides(schedule.progress(t))
        chain = inside if guides else outside
        needed = sorted({*chain[0], *reference[0]}) if guides and compares else chain[0]
        outputs = evaluate(x, t, needed)

        def eps(kept: list[int], differences: list[float]) -> Tensor:
            return schedule.to_eps(x, combine([outputs[k] for k in kept], differences), t)

        if not guidance.corrects:
            return eps(*chain)
        return correct_eps(guidance, eps(*chain), eps(*reference) if guides and compares else None, x, schedule.alpha(t))

    return denoise


def correct_eps(guidance: GuidanceOptions, eps: Tensor, conditional: Tensor | None, x: Tensor, alpha: float) -> Tensor:
    """eps after the corrections of the data that it predicts for x at `alpha`; conditional: see `GuidanceOptions.corrected`, as eps."""
    x0 = predict_x0(x, eps, alpha)
    target = None if conditional is None else predict_x0(x, conditional, alpha)
    change = guidance.correct(x0, target, sqrt(alpha) * x) - x0
    return eps - sqrt(alpha / (1 - alpha)) * change  # where nothing is corrected, eps keeps every bit
