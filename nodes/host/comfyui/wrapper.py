"""The one wrapper around every sampling of a flow, by whichever sampler of core's."""

from __future__ import annotations

from functools import partial

from comfy.patcher_extension import WrapperExecutor
from torch import Tensor

from .advice import advise
from .context_guidance import guide
from .overflow import check_sampling


def sample(executor: WrapperExecutor, noise: Tensor, *given, **more) -> Tensor:
    """Say what does not suit the model, guide contexts that have a guidance of their own, sample, and check
    the result. The further arguments differ among cores."""
    guider = executor.class_obj
    advise(guider, noise.shape)
    guide(guider)
    again = partial(executor, noise, *given, **more)
    samples = again()
    check_sampling(samples, again, guider.model_patcher.model)
    return samples
