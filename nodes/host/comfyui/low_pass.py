"""A low-pass tie on any MODEL of core's, under any sampler."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....vd_core.sampling.low_pass import LowPassTie

KEY = "vd_tie"  # the tie's place in the model_options of a MODEL


def tie(model: ModelPatcher, tie: LowPassTie) -> ModelPatcher:
    """A MODEL whose samples are tied to a source. The last tie counts. Raises ValueError for texts."""
    if getattr(model.get_model_object("diffusion_model"), "kind", None) == "text":
        raise ValueError("Low-Pass Tie (VD) works on pictures only: connect image_model.")
    model = model.clone()
    if KEY not in model.model_options:
        model.set_model_sampler_post_cfg_function(pull)
    model.model_options[KEY] = tie
    return model


def pull(args: dict) -> Tensor:
    """The predicted data, tied."""
    tie: LowPassTie = args["model_options"][KEY]
    model, x0 = args["model"], args["denoised"]
    if tie.strength == 0 or args["sigma"][0] < model.model_sampling.percent_to_sigma(tie.end):
        return x0
    return x0 + tie.pull(x0, model.process_latent_in(tie.source))
