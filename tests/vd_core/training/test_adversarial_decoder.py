"""The decoder's training against a discriminator: its losses by hand, and what learns."""

import pytest
import torch
from torch import nn

from vd_core.autoencoders.image_kl import AutoencoderKL
from vd_core.config import VDConfig
from vd_core.training.adversarial_decoder import (
    AdversarialDecoder,
    PatchDiscriminator,
    adaptive_weight,
    decoder_losses,
    discriminator_losses,
    hinge_loss,
    perceptual_distance,
)
from vd_core.training.judge import Judge


def test_hinge_loss_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert hinge_loss(real, fake).item() == pytest.approx(((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3) / 2)


def test_the_adaptive_weight_makes_gradients_equally_long():
    layer = nn.Parameter(torch.tensor([1.0, 2.0]))
    reconstruction, adversarial = (
        (torch.tensor([3.0, 4.0]) * layer).sum(),
        (torch.tensor([0.0, 0.5]) * layer).sum(),
    )
    weight = adaptive_weight(reconstruction, adversarial, layer)
    assert weight.item() == pytest.approx(5 / 0.5, rel=1e-3) and not weight.requires_grad
    nothing = adaptive_weight(reconstruction, 0 * adversarial, layer)
    assert nothing.item() == 10_000  # clamped


def test_the_discriminator_sees_patches():
    """An answer depends on 34 x 34 pixels of the picture and on no other."""
    torch.manual_seed(0)
    net, pictures = PatchDiscriminator().eval(), torch.rand(2, 3, 64, 64, requires_grad=True)
    logits = net(pictures)
    assert logits.shape == (2, 1, 14, 14)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], pictures)
    seen = gradient.abs().sum(dim=(0, 1)).nonzero()
    assert (seen.amax(dim=0) - seen.amin(dim=0) + 1).tolist() == [34, 34] and not gradient[1].any()


def test_perceptual_distance():
    torch.manual_seed(0)
    judge = Judge(3, 2)
    x = torch.rand(2, 3, 64, 64)
    y = (x + 0.2 * torch.randn_like(x)).requires_grad_(True)
    assert perceptual_distance(judge, x, x).item() == pytest.approx(0, abs=1e-9)
    near, far = perceptual_distance(judge, x, x + 0.25 * (y - x)), perceptual_distance(judge, x, y)
    assert 0 < near < far <= 4 * 5  # five layers; vectors of norm 1 differ by 2 at most
    far.backward()
    assert y.grad.any() and x.grad is None


def test_each_loss_reaches_its_own_side_only():
    torch.manual_seed(0)
    vae = AutoencoderKL(VDConfig.tiny().image_vae)
    model = AdversarialDecoder(vae, PatchDiscriminator())
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    latents = vae.encode(images.float() / 255)
    losses = decoder_losses(images, latents, latents, Judge(3, 2), batch=2)
    sides = {}
    for name, loss in losses(model, torch.Generator().manual_seed(0)):
        model.zero_grad()
        loss.backward()
        sides[name] = {part for part, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[0] for name in sides["discriminator"]} == {"discriminator"}
    assert {".".join(name.split(".")[:2]) for name in sides["decoder"]} == {
        "vae.decoder",
        "vae.post_quant_conv",
    }
    learn = {
        name
        for group in model.groups
        for name, p in model.named_parameters()
        if any(p is q for q in group.parameters)
    }
    assert (
        not any(name.startswith(("vae.encoder", "vae.quant_conv")) for name in learn)
        and sides["decoder"] <= learn
    )


def test_the_discriminator_alone_learns_to_tell_sharp_from_blurred():
    torch.manual_seed(0)
    sharp = torch.randint(0, 2, (16, 1, 32, 32)).repeat(1, 3, 2, 2).byte() * 255
    blurred = torch.nn.functional.avg_pool2d(sharp.float(), 3, 1, 1).byte()
    net = PatchDiscriminator()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    values = []
    for step in range(12):
        ((_, loss),) = discriminator_losses(sharp, blurred, batch=4)(net, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[0] > 0.8 and values[-1] < 0.3
