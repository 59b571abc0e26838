"""Training of the image decoder against a discriminator, until what it draws is as sharp as real pictures.

As the autoencoder of latent diffusion was trained (Rombach et al. 2022, appendix G; Esser et al. 2021,
section 3.2): a reconstruction loss of pixels and of a classifier's features, and a discriminator of patches,
weighted so that neither drowns the other. The encoder stays as it is, and with it all latents and whatever
was trained on them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoders.image_kl import AutoencoderKL
from .augmentation import on_grounds, place
from .clip import distort, recolour
from .image_vae import ROUGHNESS, reconstruction_loss
from .judge import Judge
from .loop import Group

PERCEPTUAL = 0.3  # weight of the classifier's features beside `reconstruction_loss`: with 1, colours drift
ADVERSARIAL = 0.8  # of the adaptive weight (0.8 in VQGAN's configs, 0.5 in latent diffusion's)
BETAS = (0.5, 0.99)  # of AdamW: the discriminator changes, a long memory of gradients would lag behind it
DRAWN = 2  # latents in a batch that a diffuser drew; they have no pictures, so only the discriminator judges


class PatchDiscriminator(nn.Module):
    """Tells real patches of pictures from drawn ones (Isola et al. 2017, section 3.2.2).

    Pictures [B, 3, H, W] in 0..1 -> logits [B, 1, H/4 - 2, W/4 - 2], one per patch of 34 x 34 pixels.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 1, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(2 * images - 1)


class AdversarialDecoder(nn.Module):
    """An image autoencoder of which only the decoder learns, and the discriminator that it learns from."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae
        vae.requires_grad_(False)
        for part in (vae.post_quant_conv, vae.decoder):
            part.requires_grad_(True)
        self.discriminator = PatchDiscriminator()

    @property
    def groups(self) -> list[Group]:
        """What `loop.fit` trains."""
        parts = self.vae, self.discriminator
        return [Group([p for p in part.parameters() if p.requires_grad]) for part in parts]


def perceptual_distance(classifier: Judge, x: Tensor, y: Tensor) -> Tensor:
    """Compare pictures by a classifier's features, of unit norm in each layer at each place.

    LPIPS (Zhang et al. 2018, eq. 1) with w = 1: mean over the places, sum over the layers.

    x, y: pictures [B, 3, H, W] in 0..1; gradients reach y.
    """
    total, count = 0.0, len(x)
    h = 2 * torch.cat([x, y]) - 1
    for layer in classifier.features:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            unit = F.normalize(h.float(), dim=1, eps=1e-3)
            total = total + (unit[:count].detach() - unit[count:]).square().sum(dim=1).mean()
    return total


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss: 0 where real logits are above 1 and drawn ones below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Return the factor that makes the adversarial gradient at the last layer as long as the other one.

    Between 0 and 10,000 (Esser et al. 2021, eq. 7).
    """
    both = reconstruction, adversarial
    wanted, given = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in both)
    return (wanted / (given + 1e-4)).clamp(0, 1e4).detach()


def decoder_losses(images: Tensor, latents: Tensor, drawn: Tensor, classifier: Judge, batch: int = 8):
    """Return the losses of the decoder and of the discriminator for `loop.fit`.

    images:  pictures, uint8 [N, 3, H, W]. Colours are compared over blocks of 8 x 8 too, so that no cast
             comes in.
    latents: theirs, unscaled [N, C, h, w]. They are made rough, each between not at all and ROUGHNESS, as in
             `image_vae_losses`.
    drawn:   unscaled latents that the diffuser drew, [M, C, h, w].
    """
    classifier.requires_grad_(False)
    spread = float(latents.std())

    def losses(model: AdversarialDecoder, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        chosen = torch.randint(len(images), (batch,), generator=generator)
        x, z = images[chosen].float() / 255, latents[chosen]
        rough = ROUGHNESS * spread * torch.rand(batch, 1, 1, 1, generator=generator)
        z = z + rough * torch.randn(z.shape, generator=generator)
        z = torch.cat([z, drawn[torch.randint(len(drawn), (DRAWN,), generator=generator)]])
        with torch.autocast("cpu", torch.bfloat16):
            every = model.vae.decode_unclamped(z).float()
            y = every[:batch]
            perceived = perceptual_distance(classifier, x, y)
            model.discriminator.requires_grad_(False)
            adversarial = -model.discriminator(every).float().mean()
        reconstruction = reconstruction_loss(y, x) + PERCEPTUAL * perceived
        weight = ADVERSARIAL * adaptive_weight(reconstruction, adversarial, model.vae.decoder.conv_out.weight)
        yield "decoder", reconstruction + weight * adversarial
        model.discriminator.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            real, fake = model.discriminator(x).float(), model.discriminator(every.detach()).float()
        yield "discriminator", hinge_loss(real, fake)

    return losses


def decoder_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return what the decoder is to draw, uint8 [6 N, 3, S, S], of pictures [N, 3, S, S] in 0..1.

    The pictures, mirrored ones, smaller ones on other grounds three times, the last time in other colours,
    and turned ones.
    """
    placed = [on_grounds(place(images, generator), generator) for _ in range(3)]
    placed[2] = recolour(placed[2], generator, grey=0)
    views = torch.cat([images, images.flip(-1), *placed, distort(images, generator, strength=0.5)])
    return (views * 255).round().clamp(0, 255).byte()
