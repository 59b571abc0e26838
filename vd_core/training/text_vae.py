"""Training of the small Optimus text autoencoder (Li et al. 2020): reconstruction plus a weighted KL."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..autoencoders.optimus import Optimus


def text_vae_losses(pieces: Tensor, tokens: Tensor, batch: int, kl_weight: float = 0.01):
    """Make a loss function for `loop.fit` over aligned word pieces [N, n] (0 = padding) and decoder tokens
    [N, m] (-100 = padding).

    The KL is weighted so that the latents keep some noise: a diffuser's small errors then still decode to the
    right words.
    """

    def losses(optimus: Optimus, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        # Without dropout, which is for long training on long texts: names are learned sooner
        optimus.encoder.eval()
        chosen = torch.randint(len(pieces), (batch,), generator=generator)
        noise = torch.randn(batch, optimus.config.latent_width, generator=generator)
        target = tokens[chosen]
        with torch.autocast("cpu", torch.bfloat16):
            mean, logvar = optimus.posterior(pieces[chosen])
            mean, logvar = mean.float(), logvar.float()
            logits = optimus.logits(mean + (logvar / 2).exp() * noise, target[:, :-1].clamp(min=0))
        words = (
            F.cross_entropy(
                logits.float().flatten(0, 1), target[:, 1:].flatten(), ignore_index=-100, reduction="sum"
            )
            / batch
        )
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=1).mean()
        yield "text_vae", words + kl_weight * kl

    return losses
