"""The losses that training adds up: of flows, images and texts."""

import copy

import pytest
import torch
from trainings import CAPTIONS

from vd_core.config import ScheduleConfig
from vd_core.context import Context
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.schedule import Schedule
from vd_core.training.diffuser import FlowData, flow_losses, initialise
from vd_core.training.image_vae import image_vae_losses, measure_psnr
from vd_core.training.loss import flow_loss
from vd_core.training.text_vae import text_vae_losses


def constant(value):
    """Return a diffuser that always predicts the same."""
    return lambda x, t, contexts, data: torch.full_like(x, value)


def test_flow_loss_of_the_noise():
    x0, noise, t = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8), torch.tensor([0, 999])
    loss = flow_loss(
        constant(0.5), Schedule(ScheduleConfig()), "image", "text", x0, t, noise, torch.zeros(2, 3, 40)
    )
    assert loss.item() == pytest.approx((0.5 - noise).square().mean().item(), rel=1e-5)


def test_flow_loss_of_v():
    x0, noise, t = torch.randn(2, 24), torch.randn(2, 24), torch.tensor([10, 700])
    schedule = Schedule(ScheduleConfig(prediction="v"))
    alphas = schedule.alphas_cumprod[t][:, None]
    v = alphas.sqrt() * noise - (1 - alphas).sqrt() * x0
    loss = flow_loss(constant(0.5), schedule, "text", "image", x0, t, noise, torch.zeros(2, 3, 40))
    assert loss.item() == pytest.approx((0.5 - v).square().mean().item(), rel=1e-5)


def test_flow_loss_asks_for_the_noisy_latent():
    x0, noise, t, tokens = (
        torch.randn(2, 24),
        torch.randn(2, 24),
        torch.tensor([10, 700]),
        torch.randn(2, 3, 40),
    )
    schedule = Schedule(ScheduleConfig())

    def diffuser(x, timesteps, contexts, data):
        alphas = schedule.alphas_cumprod[t][:, None]
        torch.testing.assert_close(x, alphas.sqrt() * x0 + (1 - alphas).sqrt() * noise)
        assert (
            timesteps is t
            and data == "text"
            and [(c.kind, c.tokens) for c in contexts] == [("image", tokens)]
        )
        return noise.bfloat16()

    loss = flow_loss(diffuser, schedule, "text", "image", x0, t, noise, tokens)
    assert loss.dtype == torch.float32 and loss < 1e-4


@pytest.fixture
def flows():
    return FlowData(
        latents={"image": torch.randn(6, 4, 6, 8), "text": torch.randn(6, 24)},
        contexts={"image": 1 + torch.rand(6, 5, 40), "text": 1 + torch.rand(6, 3, 40)},
        nulls={"image": -torch.arange(1.0, 3)[:, None, None].expand(2, 5, 40), "text": -torch.ones(1, 3, 40)},
    )


def test_batches_are_aligned_and_a_share_is_unconditional(flows):
    latents, tokens = flows.batch("text", "image", 2000, 0.25, torch.Generator().manual_seed(0))
    assert latents.shape == (2000, 24) and tokens.shape == (2000, 5, 40)
    dropped = tokens[:, 0, 0] < 0
    assert 0.2 < dropped.float().mean() < 0.3 and set(tokens[dropped].unique().tolist()) == {-1, -2}
    chosen = (latents[:, None] == flows.latents["text"]).all(dim=-1).float().argmax(dim=1)
    assert set(chosen.tolist()) == set(range(6))
    assert torch.equal(tokens[~dropped], flows.contexts["image"][chosen[~dropped]])


def test_all_four_flows_train_every_weight(config, flows):
    torch.manual_seed(0)
    diffuser = Diffuser(config.diffuser)
    batches = {(data, kind): 8 for data in ("image", "text") for kind in ("image", "text")}
    schedule = Schedule(config.schedule)
    names, sums = [], {name: torch.zeros_like(p) for name, p in diffuser.named_parameters()}
    for name, loss in flow_losses(flows, schedule, batches)(diffuser, torch.Generator().manual_seed(0)):
        assert not torch.is_autocast_enabled("cpu"), "back-propagation runs outside of autocast"
        kind, _, data = name.split("_")
        gradients = torch.autograd.grad(loss, diffuser.parameters(), allow_unused=True, retain_graph=True)
        for key, gradient in zip(sums, gradients, strict=True):
            sums[key] += 0 if gradient is None else gradient
            if key.startswith("data."):
                assert (gradient is not None) == (key.split(".")[1] == data)
            if key.startswith("context."):
                assert (gradient is not None) == (key.split(".")[1] == kind)
        loss.backward()
        names.append(name)
    assert names == ["image_to_image", "text_to_image", "image_to_text", "text_to_text"]
    for name, parameter in diffuser.named_parameters():
        assert torch.equal(parameter.grad, sums[name]) and parameter.grad.any(), name


def test_initialised_diffusers_predict_nothing_and_hear_their_context(config):
    torch.manual_seed(0)
    diffuser = Diffuser(config.diffuser)
    before = diffuser.context["text"][0].transformer_blocks[0].attn2.to_k.weight.clone()
    initialise(diffuser)
    for data, shape in (("image", (1, 4, 6, 8)), ("text", (1, 24))):
        assert not diffuser(
            torch.randn(shape), torch.tensor([5]), [Context("text", torch.randn(1, 3, 40))], data
        ).any()
    torch.testing.assert_close(
        diffuser.context["text"][0].transformer_blocks[0].attn2.to_k.weight, before * 40**0.5
    )


def assert_trains_every_weight(module, losses):
    """One step gives a finite loss and a gradient to every parameter; the same generator, the same loss."""
    ((name, loss),) = losses(module, torch.Generator().manual_seed(0))
    assert (
        not torch.is_autocast_enabled("cpu")
        and loss.dtype == torch.float32
        and loss.ndim == 0
        and loss.isfinite()
    )
    loss.backward()
    assert not [key for key, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert next(losses(module, torch.Generator().manual_seed(0)))[1] == loss
    assert next(losses(module, torch.Generator().manual_seed(1)))[1] != loss


def test_image_vae_loss(model):
    vae = copy.deepcopy(model.image_vae).requires_grad_(True)
    assert_trains_every_weight(vae, image_vae_losses(torch.rand(3, 3, 32, 32), batch=2))


def test_text_vae_loss(model):
    optimus = copy.deepcopy(model.text_vae).requires_grad_(True)
    rows = [optimus.words.encode(text) for text in CAPTIONS]
    tokens = torch.tensor([row + [-100] * (max(map(len, rows)) - len(row)) for row in rows])
    losses = text_vae_losses(optimus.pieces(CAPTIONS), tokens, batch=2)
    assert_trains_every_weight(optimus, losses)
    next(losses(optimus.train(), torch.Generator().manual_seed(0)))
    assert not optimus.encoder.training  # no dropout


def test_text_vae_loss_is_the_log_likelihood_of_the_words(model):
    optimus = model.text_vae
    row = optimus.words.encode(CAPTIONS[0])
    tokens = torch.tensor([row + [-100] * 3])
    pieces = optimus.pieces(CAPTIONS[:1])
    loss = next(
        text_vae_losses(pieces, tokens, batch=1, kl_weight=0)(optimus, torch.Generator().manual_seed(0))
    )[1]
    generator = torch.Generator().manual_seed(0)
    torch.randint(1, (1,), generator=generator)
    mean, logvar = optimus.posterior(pieces)
    latent = mean + (logvar / 2).exp() * torch.randn(1, 24, generator=generator)
    likelihoods = optimus.logits(latent, torch.tensor([row[:-1]])).log_softmax(dim=-1)[0]
    expected = -sum(likelihoods[i, word] for i, word in enumerate(row[1:]))
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_psnr(model):
    images = torch.rand(3, 3, 16, 16)
    decoded = model.image_vae.decode(model.image_vae.encode(images))
    expected = [-10 * (a - b).square().mean().log10().item() for a, b in zip(images, decoded, strict=True)]
    assert measure_psnr(model.image_vae, images).tolist() == pytest.approx(expected, rel=1e-3)
