"""Training of the image decoder against a discriminator, until what it draws is as sharp as real pictures.

As the autoencoder of latent diffusion was trained (Rombach et al. 2022, appendix G; Esser et al. 2021,
section 3.2): a reconstruction loss of pixels and of a classifier's features, and a discriminator of patches,
weighted so that neither drowns the other. The encoder stays as it is, and with it all latents and whatever
was trained on them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autoencoders.image_kl import AutoencoderKL
from ..flows import VersatileDiffusion
from .dataset import CaptionedPictures
from .evaluate import draw, see
from .image_vae import ROUGHNESS, reconstruction_loss
from .judge import Judge
from .loop import Group, fit
from .sheets import draw_reconstructions

PERCEPTUAL = 0.3  # weight of the classifier's features beside `reconstruction_loss`: with 1, colours drift
ADVERSARIAL = 0.8  # of the adaptive weight (0.8 in VQGAN's configs, 0.5 in latent diffusion's)
BETAS = (0.5, 0.99)  # of AdamW: the discriminator changes, a long memory of gradients would lag behind it
DECODER_RATE = (
    0.2  # learning rate of the decoder as a share of the discriminator's, which must keep ahead of it
)
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

    def __init__(self, vae: AutoencoderKL, discriminator: PatchDiscriminator):
        super().__init__()
        self.vae, self.discriminator = vae, discriminator.requires_grad_(True)
        vae.requires_grad_(False)
        for part in (vae.post_quant_conv, vae.decoder):
            part.requires_grad_(True)

    @property
    def groups(self) -> list[Group]:
        """What `loop.fit` trains."""
        parts = (self.vae, DECODER_RATE), (self.discriminator, 1.0)
        return [Group([p for p in part.parameters() if p.requires_grad], rate=rate) for part, rate in parts]


def perceptual_distance(classifier: Judge, x: Tensor, y: Tensor) -> Tensor:
    """Compare pictures by a classifier's features, of unit norm in each layer at each place.

    LPIPS (Zhang et al. 2018, eq. 1) with w = 1: mean over the places, sum over the layers.

    x, y: pictures [B, 3, H, W] in 0..1; gradients reach y.
    """
    total, count = x.new_zeros(()), len(x)
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


def roughen(latents: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Add noise to latents [B, C, h, w], between none and ROUGHNESS of their spread for each."""
    rough = ROUGHNESS * spread * torch.rand(len(latents), 1, 1, 1, generator=generator)
    return latents + rough * torch.randn(latents.shape, generator=generator)


def discriminator_losses(images: Tensor, drawn: Tensor, batch: int = 24):
    """Return the loss of a discriminator alone, for `loop.fit`; pictures and drawn ones are uint8 [N, 3, H,
    W].

    One that knows nothing yet would lead the decoder nowhere.
    """

    def losses(discriminator: PatchDiscriminator, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        sides = [
            side[torch.randint(len(side), (batch,), generator=generator)].float() / 255
            for side in (images, drawn)
        ]
        with torch.autocast("cpu", torch.bfloat16):
            logits = [discriminator(side).float() for side in sides]
        yield "discriminator", hinge_loss(*logits)

    return losses


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
        z = roughen(z, spread, generator)
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


def train_decoder(
    model: VersatileDiffusion,
    data: CaptionedPictures,
    classifier: Judge,
    out: Path,
    steps: dict[str, int],
    trained_on: dict[str, str],
) -> AutoencoderKL:
    """Train the decoder of a model, or resume; returns its autoencoder.

    It sees the training pictures, mirrored ones, and latents that the model draws for half of them, from
    their captions and from themselves.

    classifier: for the perceptual loss; not the one that is to judge the result.
    steps:      of "discriminator", which learns alone first, and of "decoder"; each has a folder in `out`.
    trained_on: see `fit`.
    """
    images = data.pixels[data.train]
    with torch.inference_mode():
        half = data.train[::2]
        contexts = model.encode_text([data.captions[i] for i in half]), model.encode_image(data.pixels[half])
        like = model.image_vae.encode(images[:1]).expand(len(half), -1, -1, -1)
        drawn = torch.cat([draw(model, [context], like) for context in contexts])
        images = torch.cat([images, images.flip(-1)])
        latents = torch.cat([model.image_vae.encode(chunk) for chunk in images.split(64)])
        fakes = see(
            model,
            torch.cat([roughen(latents, float(latents.std()), torch.Generator().manual_seed(0)), drawn]),
        )
    images, fakes = (images * 255).round().byte(), (fakes * 255).round().byte()
    latents, drawn = latents.clone(), drawn.clone()  # of inference mode no more
    torch.manual_seed(0)
    discriminator = fit(
        PatchDiscriminator(),
        discriminator_losses(images, fakes),
        out / "discriminator",
        steps=steps["discriminator"],
        lr=1e-3,
        warmup=20,
        trained_on=trained_on,
        betas=BETAS,
        weight_decay=0.0,
        ema=0,
    )
    module = AdversarialDecoder(copy.deepcopy(model.image_vae), discriminator)
    trained = fit(
        module,
        decoder_losses(images, latents, drawn, classifier),
        out / "decoder",
        steps=steps["decoder"],
        lr=1e-3,
        warmup=50,
        trained_on=trained_on,
        betas=BETAS,
        weight_decay=0.0,
        ema=0.995,
        groups=module.groups,
        clip_apart=True,
        sheet=lambda average, folder: draw_reconstructions(average.vae, data, folder),
    )
    return trained.vae
