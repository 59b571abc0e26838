"""Low-pass guidance on any MODEL of core's, under any sampler."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....vd_core.sampling.low_pass import LowPassGuidance
from ...latents import refuse_texts
from .models import makes_texts

KEY = "vd_low_pass"  # the guidance's place in the model_options of a MODEL


def guide_low_pass(model: ModelPatcher, guidance: LowPassGuidance) -> ModelPatcher:
    """Let a MODEL keep the large shapes of a source. The last one set counts. Raises ValueError for texts."""
    refuse_texts(makes_texts(model), "Low-Pass Guidance (VD)")
    model = model.clone()
    if KEY not in model.model_options:
        model.set_model_sampler_post_cfg_function(pull)
    model.model_options[KEY] = guidance
    return model


def pull(args: dict) -> Tensor:
    """Pull predicted data to the large shapes of the source: a hook of core's, called after guidance."""
    guidance: LowPassGuidance = args["model_options"][KEY]
    model, x0 = args["model"], args["denoised"]
    if guidance.strength == 0 or args["sigma"][0] < model.model_sampling.percent_to_sigma(guidance.end):
        return x0
    return x0 + guidance.pull(x0, model.process_latent_in(guidance.source))
