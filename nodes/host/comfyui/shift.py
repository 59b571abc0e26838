"""The noise of a MODEL shifted for pictures of another size, under any sampler and scheduler of core's."""

from __future__ import annotations

import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS, V_PREDICTION, ModelSamplingDiscrete
from torch import Tensor

from ....vd_core.sampling.schedule import Schedule
from ....vd_core.sampling.shift import UNSHIFTED, ResolutionShift
from ...latents import make_shift
from .models import find_flow


class ShiftedSampling(ModelSamplingDiscrete):
    """A model's noise levels, from which schedulers choose, shifted. The network is told the timestep at
    which it learned a level, and percentages mean the levels that they mean without a shift."""

    def __init__(self, model_config, shift: ResolutionShift):
        super().__init__(model_config)
        self.shift, self.trained = shift, ModelSamplingDiscrete(model_config)
        trained = self.log_sigmas.double()
        self.set_sigmas(self.sigmas * (torch.from_numpy(shift.log_sigmas(trained.numpy())) - trained).exp())

    def timestep(self, sigma: Tensor) -> Tensor:
        return self.trained.timestep(sigma)

    def percent_to_sigma(self, percent: float) -> float:
        return self.trained.percent_to_sigma(percent)


class ShiftedEps(ShiftedSampling, EPS):
    """Of a network that predicts noise."""


class ShiftedV(ShiftedSampling, V_PREDICTION):
    """Of a network that predicts v."""


def shift_resolution(
    model: ModelPatcher, latent: dict, trained_side: int, noisy: float, clean: float
) -> ModelPatcher:
    """Shift the noise of a copy of a MODEL for latents of that size. Raises ValueError for texts and for
    other models."""
    flow = find_flow(model)
    shift = make_shift(flow.sizes, latent, trained_side, noisy, clean)
    model = model.clone()
    sampling = {"eps": ShiftedEps, "v": ShiftedV}[flow.vd_config.schedule.prediction]
    model.add_object_patch("model_sampling", sampling(flow.model_config, shift))
    return model


def schedule_of(model: ModelPatcher) -> Schedule:
    """Return the schedule of vd_core's samplers for a MODEL, shifted as it is. Raises ValueError for another
    model."""
    sampling = model.get_model_object("model_sampling")
    return Schedule(
        find_flow(model).vd_config.schedule,
        sampling.shift if isinstance(sampling, ShiftedSampling) else UNSHIFTED,
    )
