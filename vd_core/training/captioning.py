"""Training of the flow from images to texts so that pictures are read and not known by heart.

The diffusion loss alone soon knows each caption of a small collection by heart. Here the context layers of
images are taught by those of texts, which already say names and styles apart; few of a picture's tokens are
seen at a time, some mixed with those of a like picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..context import Context
from ..diffuser.mixing import Layer, Share
from ..diffuser.model import Diffuser
from ..sampling.schedule import Schedule
from .diffuser import FlowData
from .loss import flow_loss

# Patches of a picture that are seen at a time (as in FLIP, Li et al. 2023): cheaper, and no picture looks the
# same twice
KEPT = 16
# Share of the pictures that take up to half of their tokens from another one of the same thing: what is alike
# is the name
MIXED = 0.3
# Weights of the two losses: the first one's gradient is the smaller one, and learns less by heart
MATCH, DIFFUSION = 4.0, 0.5


def captioning_losses(flows: FlowData, names: Tensor, schedule: Schedule, size: int, dropout: float = 0.1):
    """Make a loss function for `loop.fit`: texts from a few patches of images, by the diffusion loss and by
    `matching_loss`.

    flows:   latents of "text", contexts of "image" (a global token, then patches) and "text", which say the
             same of each of N samples; of nulls the only one of "text", and any of "image".
    names:   number of the thing in each sample, [N].
    dropout: share of the samples that is unconditional.
    """
    by_name, counts = names.argsort(), names.bincount()
    starts = counts.cumsum(dim=0) - counts

    def losses(diffuser: Diffuser, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randint(len(flows.latents["text"]), (size,), generator=generator)
        dropped = torch.rand(size, 1, 1, generator=generator) < dropout
        null = flows.nulls["image"][torch.randint(len(flows.nulls["image"]), (size,), generator=generator)]
        name = names[chosen]
        like = by_name[starts[name] + (torch.rand(size, generator=generator) * counts[name]).long()]
        share = (
            0.5
            * torch.rand(size, 1, 1, generator=generator)
            * (torch.rand(size, 1, 1, generator=generator) < MIXED)
        )
        pictures = flows.contexts["image"][chosen].float().lerp(flows.contexts["image"][like].float(), share)
        seen = keep_few_patches(torch.where(dropped, null, pictures), generator)
        said = torch.where(dropped, flows.nulls["text"], flows.contexts["text"][chosen].float())
        x0 = flows.latents["text"][chosen]
        t = torch.randint(schedule.timesteps, (size,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = matching_loss(
                diffuser,
                "text",
                schedule.q_sample(x0, t, noise),
                t,
                Context("text", said),
                Context("image", seen),
            )
        yield "match", MATCH * loss
        with torch.autocast("cpu", torch.bfloat16):
            loss = flow_loss(diffuser, schedule, "text", "image", x0, t, noise, seen)
        yield "captions", DIFFUSION * loss

    return losses


def keep_few_patches(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Keep the global token and KEPT random patches of image tokens [B, 1 + n, d]: [B, 1 + KEPT, d]."""
    patches = torch.rand(len(tokens), tokens.shape[1] - 1, generator=generator).argsort(dim=1)[:, :KEPT]
    return torch.cat([tokens[:, :1], tokens[torch.arange(len(tokens))[:, None], 1 + patches]], dim=1)


def matching_loss(
    diffuser: Diffuser, data: str, x: Tensor, t: Tensor, teacher: Context, pupil: Context
) -> Tensor:
    """Measure how far the context layers of one kind are from those of another that are told the same (Hinton
    et al. 2015, layer by layer).

    x, t:           noisy latents of kind `data` and their timesteps.
    teacher, pupil: kinds of context and their tokens.

    All layers are given what they meet in the teacher's flow, and only those of the pupil's kind learn. A
    layer's squared error counts as a share of the variance of what the teacher's adds.
    """
    errors = []

    def compare(teaches: Layer, learns: Layer, h: Tensor) -> Tensor:
        taught = teaches(h)
        with torch.enable_grad():
            said = learns(h)
            added = (taught - h).float().var().clamp(min=1e-6)  # untrained layers add nothing
            errors.append(F.mse_loss(said.float(), taught.float()) / added)
        return taught

    def choose(layers: Sequence[Layer], shares: Sequence[Share]) -> list[tuple[Layer, None]]:
        teaches, learns = layers
        return [(partial(compare, teaches, learns), None)]

    with torch.no_grad():
        diffuser(x, t, [teacher, pupil], data, mixing=choose)
    return torch.stack(errors).mean()
