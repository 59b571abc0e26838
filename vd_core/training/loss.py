"""The multi-flow diffusion loss (Versatile Diffusion, Algorithm 1), pure."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule


def flow_loss(diffuser: Diffuser, schedule: Schedule, data: str, kind: str, x0: Tensor, t: Tensor, noise: Tensor, tokens: Tensor) -> Tensor:
    """Mean squared error of one flow: latents of kind `data` [B, …] (scaled) under one context of `kind`, tokens [B, n, d].

    t [B] are timesteps 0..timesteps-1, noise is standard normal of x0's shape. The target is what the schedule's `prediction` names.
    """
    x = schedule.q_sample(x0, t, noise)
    prediction = diffuser(x, t, [(kind, tokens, 1.0)], data)
    return F.mse_loss(prediction.float(), schedule.target(x0, t, noise))
