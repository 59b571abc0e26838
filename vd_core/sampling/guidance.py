"""Classifier-free guidance: diffuser + contexts + scale -> `denoise(x, t)`, all that a sampler sees."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from ..context import Blend, local_ratios, ratios
from ..diffuser.mixing import Mixing, attention_mixing
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


def guided(
    diffuser: Diffuser,
    schedule: Schedule,
    contexts: Blend,
    data: str,
    cfg: float | Sequence[float] = 7.5,
    mixing: Mixing = attention_mixing,
    guidance: GuidanceOptions = PLAIN,
) -> Denoise:
    """Return denoise(x [B, …], t) -> eps [B, …] for one kind of output under any number of contexts.

    cfg:      one scale, which is multiplied by each context's own `guidance`, or one per context; scale 1 costs one evaluation and
              ignores the unconditional tokens.
    guidance: when the scales act, and corrections of what they do; these compare with the prediction at cfg 1.
    The evaluations of one step run as one batch, unconditional first, like the official code's.

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

    def tokens(number: int, batch: int, kept: list[int]) -> Tensor:
        """Tokens of one context for all evaluations, [len(kept) * batch, n, d]."""
        context = contexts[number]
        samples = max(len(context.tokens), len(context.unconditional))
        if samples not in (1, batch):
            raise ValueError(f"The {context.kind} context has {samples} samples, the latent has {batch}.")
        return torch.cat([(context.tokens if number < k else context.unconditional).expand(batch, -1, -1) for k in kept])

    def emphasis(number: int, batch: int, kept: list[int]) -> Tensor | None:
        """Emphasis of one context for all evaluations, [len(kept) * batch, n]."""
        context = contexts[number]
        if context.emphasis is None and context.null_emphasis is None:
            return None
        plain = context.tokens.new_ones(1, context.tokens.shape[1])
        sides = [plain if side is None else side for side in (context.emphasis, context.null_emphasis)]
        return torch.cat([sides[number >= k].expand(batch, -1) for k in kept])

    def reading(number: int, x: Tensor, share: float | Tensor, kept: list[int]) -> Reading:
        """One context for all evaluations of x."""
        weights = emphasis(number, len(x), kept)
        return Reading(contexts[number].kind, tokens(number, len(x), kept).to(x), share, None if weights is None else weights.to(x))

    def evaluate(x: Tensor, t: int, kept: list[int]) -> dict[int, Tensor]:
        """The predictions e_k, as one batch."""
        local = local_ratios(shares, [context.region for context in contexts], schedule.progress(t), len(x), x.shape[2:])
        inputs = [reading(number, x, share, kept) for number, share in enumerate(local)]
        timesteps = torch.full((len(x) * len(kept),), t, device=x.device)
        outputs = diffuser(torch.cat([x] * len(kept)), timesteps, inputs, data, mixing).chunk(len(kept))
        return dict(zip(kept, outputs, strict=True))

    def denoise(x: Tensor, t: int) -> Tensor:
        guides = guidance.guides(schedule.progress(t))
        chain = inside if guides else outside
        needed = sorted({*chain[0], *reference[0]}) if guides and compares else chain[0]
        outputs = evaluate(x, t, needed)

        def eps(kept: list[int], differences: list[float]) -> Tensor:
            return schedule.to_eps(x, combine([outputs[k] for k in kept], differences), t)

        if not guidance.corrects:
            return eps(*chain)
        return corrected(guidance, eps(*chain), eps(*reference) if guides and compares else None, x, schedule.alphas_cumprod[t].item())

    return denoise


def corrected(guidance: GuidanceOptions, eps: Tensor, conditional: Tensor | None, x: Tensor, alpha: float) -> Tensor:
    """eps after the corrections of the data that it predicts for x at `alpha`; conditional: see `GuidanceOptions.corrected`, as eps."""
    x0 = predict_x0(x, eps, alpha)
    target = None if conditional is None else predict_x0(x, conditional, alpha)
    change = guidance.corrected(x0, target, sqrt(alpha) * x) - x0
    return eps - sqrt(alpha / (1 - alpha)) * change  # where nothing is corrected, eps keeps every bit
