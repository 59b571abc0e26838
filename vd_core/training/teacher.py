"""What methods of distillation ask of the teacher and of the student."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..context import Context
from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule

# What is trained -> the diffuser that computes with it.
Attach = Callable[[nn.Module], AbstractContextManager[Diffuser]]


def predict_data(
    diffuser: Diffuser, schedule: Schedule, x: Tensor, t: Tensor, kind: str, tokens: Tensor, data: str
) -> Tensor:
    """Predict the data in latents x [B, …] of kind `data` at timesteps t [B] under one context, unguided."""
    return schedule.to_x0(x, diffuser(x, t, [Context(kind, tokens)], data).float(), t)


@torch.no_grad()
def predict_guided_data(
    diffuser: Diffuser,
    schedule: Schedule,
    x: Tensor,
    t: Tensor,
    kind: str,
    tokens: Tensor,
    null: Tensor,
    data: str,
    cfg: float,
) -> Tensor:
    """Predict the data with classifier-free guidance of scale `cfg`; null: unconditional tokens [1, n, d]."""
    if cfg == 1:
        return predict_data(diffuser, schedule, x, t, kind, tokens, data)
    rows = torch.cat([null.expand(len(x), -1, -1).to(tokens), tokens])
    unguided, conditional = diffuser(x, t, [Context(kind, rows)], data, evaluations=2).float().chunk(2)
    return schedule.to_x0(x, unguided + cfg * (conditional - unguided), t)
