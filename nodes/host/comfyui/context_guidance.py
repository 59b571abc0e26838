"""A guidance of its own for each context of a blend, under any of core's samplers."""

from __future__ import annotations

import torch
from comfy.conds import CONDRegular
from comfy.patcher_extension import (
    WrapperExecutor,
    WrappersMP,
    add_wrapper_with_key,
    get_wrappers_with_key,
)
from comfy.samplers import CFGGuider
from torch import Tensor

from ....vd_core.sampling.guidance import plan_evaluations
from ...conditioning import Layout


def guide(guider: CFGGuider) -> None:
    """Let a guider that is about to sample use `predict`, once, for this sampling. Where no context has a
    guidance of its own, nothing lies between core's predictions and the network."""
    entries = [entry for side in guider.conds.values() for entry in side]
    layouts = [entry["vd_layout"] for entry in entries if "vd_layout" in entry]
    # without layouts the contexts may be those of another guider that this one holds
    is_plain = bool(layouts) and all(part.guidance == 1 for layout in layouts for part in layout)
    place = (WrappersMP.CALC_COND_BATCH, "vd_context_guidance")
    if not is_plain and not get_wrappers_with_key(*place, guider.model_options, is_model_options=True):
        add_wrapper_with_key(*place, predict, guider.model_options, is_model_options=True)


def predict(
    executor: WrapperExecutor, model, conds: list, x: Tensor, timestep: Tensor, model_options: dict
) -> list[Tensor]:
    """Wrap core's predictions for [positive, negative], of which core makes u + cfg (p - u): where contexts
    have a guidance of their own, p is such that this is u + cfg Σ guidance_k (e_k - e_{k-1}), with e_k as in
    `plan_evaluations`. All run as one batch.

    Raises ValueError where there is no such sum: without a negative, as at cfg 1, and for a positive or
    negative that is a list.
    """
    scales = [part.guidance for part in read_layout(conds[0])]
    if len(conds) != 2 or all(scale == 1 for scale in scales):
        return executor(model, conds, x, timestep, model_options)
    positive, negative = conds
    if (
        not negative
        or len(positive) != 1
        or len(negative) != 1
        or read_layout(negative) != read_layout(positive)
    ):
        raise ValueError(
            "Guidance per Context (VD) needs a cfg other than 1, and positive and negative from the same "
            "node: wire both through it, and combine neither with others."
        )
    chain = plan_evaluations(scales)
    needed = sorted({0, *chain.evaluated})
    predicted = executor(
        model, [[mix_entries(positive[0], negative[0], k)] for k in needed], x, timestep, model_options
    )
    outputs = dict(zip(needed, predicted, strict=True))
    return [chain.combine(outputs), outputs[0]]


def read_layout(cond: list | None) -> Layout:
    """Return the contexts of a cond's first entry; none where it is not ours."""
    held = cond[0]["model_conds"].get("vd_layout") if cond else None
    return () if held is None else held.cond


def mix_entries(positive: dict, negative: dict, k: int) -> dict:
    """Return the entry with the first k contexts of positive and the others of negative."""
    sides = [side["model_conds"] for side in (positive, negative)]
    count = sum(part.count for part in read_layout([positive])[:k])
    tokens = [side["c_crossattn"].cond for side in sides]
    changed = {"c_crossattn": splice(tokens[0], tokens[1], count)}
    if any("vd_token_weights" in side for side in sides):
        plain = tokens[0].new_ones(1, tokens[0].shape[1])
        weights = [side["vd_token_weights"].cond if "vd_token_weights" in side else plain for side in sides]
        changed["vd_token_weights"] = splice(weights[0], weights[1], count)
    return {**(positive if k else negative), "model_conds": {**sides[0 if k else 1], **changed}}


def splice(first: Tensor, second: Tensor, count: int) -> CONDRegular:
    """Return the first `count` tokens of one and the others of the other, [B or 1, n, …]."""
    batch = max(len(first), len(second))
    rows = [side.expand(batch, *side.shape[1:]) for side in (first, second)]
    return CONDRegular(torch.cat([rows[0][:, :count], rows[1][:, count:]], dim=1))
