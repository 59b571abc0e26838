"""Guidance options on any MODEL of core's, under any sampler and any guider that knows a positive
conditioning."""

from __future__ import annotations

from math import isclose

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS, V_PREDICTION
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ....vd_core.sampling.corrections import GuidanceOptions

KEY = "vd_guidance"  # the options' place in the model_options of a MODEL


def with_guidance(model: ModelPatcher, guidance: GuidanceOptions) -> ModelPatcher:
    """Return a MODEL that is guided with these options. The last ones set count."""
    model = model.clone()
    if KEY not in model.model_options:
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, predict)
        model.set_model_sampler_post_cfg_function(correct)
    model.model_options[KEY] = guidance
    return model


def predict(
    executor: WrapperExecutor, x: Tensor, sigma: Tensor, model_options: dict, seed: int | None
) -> Tensor:
    """Wrap a guider's predictions: outside the interval only that of the positive conditioning is made.
    Core's hook for this would be lost under other nodes' and under guiders of two scales; a wrapper is not.
    """
    guider = executor.class_obj
    if guides(guider.inner_model, sigma, model_options[KEY]):
        return executor(x, sigma, model_options, seed)
    positive, negative = guider.conds["positive"], guider.conds.get("negative")
    # As at cfg 1 core leaves the negative out, unless a node or a sampler, SelfAttentionGuidance for one,
    # says that it needs it.
    conds = (
        [positive, negative] if negative and model_options.get("disable_cfg1_optimization") else [positive]
    )
    predicted = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, sigma, model_options)
    # what other nodes make of the two predictions is made of equal ones where there is one
    ends = (predicted[0], predicted[-1])
    return comfy.samplers.cfg_function(
        guider.inner_model, *ends, 1.0, x, sigma, model_options, positive, negative
    )


def correct(args: dict) -> Tensor:
    """Return the corrections, after guidance."""
    guidance: GuidanceOptions = args["model_options"][KEY]
    model, sigma, x = args["model"], args["sigma"], args["input"]
    scale = args["cond_scale"]
    guided = guides(model, sigma, guidance) and scale != 0 and not isclose(scale, 1)
    conditional = args["cond_denoised"] if guided and guidance.needs_conditional else None
    return guidance.correct(
        args["denoised"], conditional, predict_without_velocity(model.model_sampling, sigma, x)
    )


def guides(model, sigma: Tensor, guidance: GuidanceOptions) -> bool:
    """Tell whether guidance acts at that noise. Core turns shares of the way into noise, and compares them,
    in the same manner."""
    start, end = (model.model_sampling.percent_to_sigma(share) for share in (guidance.start, guidance.end))
    return end <= sigma[0] <= start


def predict_without_velocity(model_sampling, sigma: Tensor, x: Tensor) -> Tensor:
    """Predict the data that v = 0 stands for. Of models that predict noise v is what vd_core and core's
    RescaleCFG compare too."""
    calculate = (
        V_PREDICTION.calculate_denoised
        if isinstance(model_sampling, EPS)
        else type(model_sampling).calculate_denoised
    )
    return calculate(model_sampling, sigma, torch.zeros_like(x), x)
