"""The plain baseline: a guided step as the official code computes it, on the layers of our diffuser.

float32, dense weights, attention by einsum with all its scores in memory, contexts projected again at every
step, the conditional and the unconditional half as one batch, and nothing shared, cached or left out.
Whatever the product learns to save, this stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import CFG, TIMESTEP, Case
from vd_core.context import Context
from vd_core.diffuser.layers import Attention
from vd_core.diffuser.model import Diffuser


def attend_by_einsum(
    self: Attention, x: Tensor, context: Tensor | None = None, token_weights: Tensor | None = None
) -> Tensor:
    """Compute softmax(Q Kᵀ / √d) V, written out (Vaswani et al. 2017, eq. 1); token weights as in
    `Attention`. A row of the context for each sample."""
    context = x if context is None else context
    q, k, v = (
        rearrange(tokens, "b n (h d) -> b h n d", h=self.heads)
        for tokens in (self.to_q(x), self.to_k(context), self.to_v(context))
    )
    scores = torch.einsum("b h i d, b h j d -> b h i j", q, k) * q.shape[-1] ** -0.5
    if token_weights is not None:
        scores = scores + token_weights.log()[:, None, None]
    mixed = torch.einsum("b h i j, b h j d -> b h i d", scores.softmax(dim=-1), v)
    return self.to_out(rearrange(mixed, "b h n d -> b n (h d)"))


@contextmanager
def use_plain_attention() -> Iterator[None]:
    """Let diffusers compute their attention by einsum while this is active."""
    with patch.object(Attention, "forward", attend_by_einsum):
        yield


def make_plain_diffuser(diffuser: Diffuser) -> Diffuser:
    """Make the same diffuser with dense weights of float32; weights that are so already take no further
    memory."""
    with torch.device("meta"):
        plain = Diffuser(diffuser.config, diffuser.data, diffuser.context).requires_grad_(False)
    plain.load_state_dict(
        {key: weight.float().contiguous() for key, weight in diffuser.state_dict().items()}, assign=True
    )
    return plain


def make_plain_step(case: Case, diffuser: Diffuser) -> Callable[[], Tensor]:
    """Make one guided step: () -> eps [B, …], float32."""
    x, batch = case.latent.float(), case.batch
    contexts = []
    for context in case.contexts:
        sides = [side.float().expand(batch, -1, -1) for side in (context.unconditional, context.tokens)]
        contexts.append(Context(context.kind, torch.cat(sides), weight=context.weight))
    timesteps = torch.full((2 * batch,), TIMESTEP, device=x.device)

    def step() -> Tensor:
        with use_plain_attention():
            unconditional, conditional = diffuser(torch.cat([x, x]), timesteps, contexts, case.data).chunk(2)
        return unconditional + CFG * (conditional - unconditional)

    return step


@torch.inference_mode()
def count_flops(case: Case) -> int:
    """Count what a guided step of the plain baseline costs; a multiplication and an addition count as two.
    Nothing is computed.

    It is the yardstick for all contestants: who leaves work out reaches a higher rate.
    """
    case = replace(case, device="meta", dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        make_plain_step(case, case.diffuser)()
    return counter.get_total_flops()
