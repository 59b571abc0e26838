"""Few large steps: the posterior in closed form, losses by hand, consistency, resuming to the bit."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.samplers import posterior
from vd_core.sampling.schedule import Schedule
from vd_core.training.consistency import HUBER, consistency_losses, huber_loss
from vd_core.training.ddgan import (
    AdversarialWeights,
    Adversaries,
    ddgan_losses,
    discriminator_loss,
    draw_noisy_pair,
    generator_loss,
    r1_penalty,
)
from vd_core.training.diffuser import FlowData
from vd_core.training.discriminator import LatentDiscriminator
from vd_core.training.loop import fit
from vd_core.training.teacher import predict_data, predict_guided_data

CONFIG = VDConfig.tiny()
SCHEDULE = Schedule(CONFIG.schedule)
FLOWS = [("image", "text"), ("image", "image"), ("text", "image"), ("text", "text")]


@pytest.fixture(scope="module")
def diffuser():
    torch.manual_seed(0)
    return Diffuser(CONFIG.diffuser).requires_grad_(False)


@pytest.fixture(scope="module")
def flows():
    torch.manual_seed(1)
    data, widths = CONFIG.diffuser.data, CONFIG.diffuser.context
    latents = {
        "image": torch.randn(5, data["image"].channels, 8, 8),
        "text": torch.randn(5, data["text"].channels),
    }
    contexts = {kind: torch.randn(5, 3, width) for kind, width in widths.items()}
    return FlowData(latents, contexts, {kind: torch.randn(2, 3, width) for kind, width in widths.items()})


def test_large_steps_are_spread_evenly_from_the_noisiest_timestep():
    assert SCHEDULE.steps(4, "sgm_uniform").timesteps.tolist() == [999, 749, 500, 250]
    assert SCHEDULE.steps(1, "sgm_uniform").timesteps.tolist() == [999]
    assert len(SCHEDULE.steps(1000, "sgm_uniform")) == 999  # timestep 0 is the result


def test_the_posterior_is_that_of_the_schedule_for_steps_of_one_timestep():
    """The 12 buffers of official checkpoints hold its coefficients for neighbouring timesteps."""
    buffers, alphas = SCHEDULE.buffers(), SCHEDULE.alphas_cumprod.double()
    data, noisy, deviation = posterior(alphas[1:], alphas[:-1])
    for ours, name in (
        (data, "posterior_mean_coef1"),
        (noisy, "posterior_mean_coef2"),
        (deviation.square(), "posterior_variance"),
    ):
        # the buffers are rounded
        torch.testing.assert_close(ours.float(), buffers[name][1:], rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("alpha", "alpha_next"),
    [(0.0047, 0.0566), (0.0566, 0.2763), (0.2763, 0.6738), (0.6738, 0.9991), (0.0047, 0.9991)],
)
def test_the_posterior_is_bayes_rule_for_steps_of_any_size(alpha, alpha_next):
    """q(x_next | x0) q(x | x_next) as a density of x_next: precisions add up, and precision times mean
    too."""
    step = alpha / alpha_next
    prior, likelihood = 1 / (1 - alpha_next), step / (1 - step)
    variance = 1 / (prior + likelihood)
    data, noisy, deviation = posterior(alpha, alpha_next)
    assert deviation**2 == pytest.approx(variance, rel=1e-9)
    assert data == pytest.approx(variance * prior * math.sqrt(alpha_next), rel=1e-9)
    assert noisy == pytest.approx(variance * likelihood / math.sqrt(step), rel=1e-9)


def test_draws_of_the_data_that_are_exact_give_exact_samples_in_four_steps():
    """Data N(mean, spread²): x0 given x is normal too. Moments after a step are those of diffused data.

    With the mean of x0 in place of a draw, as without an adversary, the spread comes out too small.
    """
    mean, spread = 1.5, 0.4
    for draws, wanted in ((True, 1.0), (False, None)):
        m = v = None
        for _, alpha, alpha_next in SCHEDULE.steps(4, "sgm_uniform"):
            if m is None:
                m, v = math.sqrt(alpha) * mean, alpha * spread**2 + 1 - alpha
            # E[x0 | x] = mean + gain (x - sqrt(alpha) mean)
            gain = math.sqrt(alpha) * spread**2 / (alpha * spread**2 + 1 - alpha)
            rest = spread**2 - gain * math.sqrt(alpha) * spread**2  # the variance of x0 given x
            data, noisy, deviation = posterior(alpha, alpha_next)
            m0 = mean + gain * (m - math.sqrt(alpha) * mean)
            m, v = (
                data * m0 + noisy * m,
                (data * gain + noisy) ** 2 * v + deviation**2 + draws * data**2 * rest,
            )
        exact = alpha_next * spread**2 + 1 - alpha_next
        assert m == pytest.approx(math.sqrt(alpha_next) * mean, rel=1e-9)
        if wanted:
            assert v == pytest.approx(exact, rel=1e-9)
        else:
            assert v < 0.8 * exact


def test_a_real_pair_has_the_moments_of_the_diffusion():
    alpha, alpha_next = (
        torch.full((200_000,), 0.2, dtype=torch.float64),
        torch.full((200_000,), 0.7, dtype=torch.float64),
    )
    x0 = torch.full((200_000, 1), 2.0)
    generator = torch.Generator().manual_seed(0)
    noises = torch.randn(2, *x0.shape, generator=generator)
    x_next, x = draw_noisy_pair(x0, alpha, alpha_next, *noises)
    for values, a in ((x_next, 0.7), (x, 0.2)):
        assert values.mean() == pytest.approx(2 * math.sqrt(a), abs=0.01) and values.var() == pytest.approx(
            1 - a, abs=0.01
        )
    covariance = ((x - x.mean()) * (x_next - x_next.mean())).mean()
    assert covariance == pytest.approx(math.sqrt(0.2 / 0.7) * 0.3, abs=0.01)


def test_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 3.0])
    softplus = [math.log(1 + math.exp(value)) for value in (-2, 0, -1, 3, 1, -3)]
    assert discriminator_loss(real, fake).item() == pytest.approx(
        (softplus[0] + softplus[1] + softplus[2] + softplus[3]) / 2
    )
    assert generator_loss(fake).item() == pytest.approx((softplus[4] + softplus[5]) / 2)
    x = torch.tensor([[1.0, 2.0], [0.0, -1.0]], requires_grad=True)
    logits = (x**2).sum(dim=1)  # its gradient is 2 x
    assert r1_penalty(logits, x).item() == pytest.approx(0.5 * (4 * 5 + 4 * 1) / 2)
    x, y = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0])
    assert huber_loss(x, y).item() == pytest.approx((math.hypot(3, HUBER) + HUBER) / 2 - HUBER)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_predicted_data_is_what_the_prediction_stands_for(prediction):
    schedule = Schedule(VDConfig.tiny().schedule.__class__(prediction=prediction))
    x0, noise, t = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([10, 500, 999])
    x = schedule.q_sample(x0, t, noise)
    torch.testing.assert_close(schedule.to_x0(x, schedule.target(x0, t, noise), t), x0, atol=1e-4, rtol=1e-4)


def test_the_teacher_is_guided(diffuser, flows):
    x, t = flows.latents["image"][:2], torch.tensor([999, 250])
    tokens, null = flows.contexts["text"][:2], flows.null("image", "text")
    sides = [
        predict_data(diffuser, SCHEDULE, x, t, "text", rows, "image")
        for rows in (null.expand(2, -1, -1), tokens)
    ]
    guided = predict_guided_data(diffuser, SCHEDULE, x, t, "text", tokens, null, "image", 3.0)
    torch.testing.assert_close(guided, sides[0] + 3 * (sides[1] - sides[0]), atol=1e-4, rtol=1e-4)
    assert torch.equal(
        predict_guided_data(diffuser, SCHEDULE, x, t, "text", tokens, null, "image", 1), sides[1]
    )


@pytest.mark.parametrize("data", ["image", "text"])
def test_the_discriminator_reads_all_that_it_is_given(flows, data):
    torch.manual_seed(0)
    net = LatentDiscriminator(CONFIG.diffuser.data[data], CONFIG.diffuser.context)
    x, t = flows.latents[data][:4], torch.tensor([250, 500, 749, 999])
    given = {"x_next": x, "x": x.roll(1, 0), "t": t, "kind": "text", "tokens": flows.contexts["text"][:4]}
    logits = net(**given)
    assert logits.shape == (4,)
    for name, other in (
        ("x_next", -x),
        ("x", x),
        ("t", t.flip(0)),
        ("tokens", given["tokens"].roll(1, 0)),
        ("kind", "image"),
    ):
        assert not torch.allclose(net(**{**given, name: other}), logits), name


def test_each_loss_reaches_its_own_side_only(diffuser, flows):
    torch.manual_seed(0)
    model = Adversaries(copy.deepcopy(diffuser).requires_grad_(True), CONFIG.diffuser, ["image", "text"])
    losses = ddgan_losses(
        flows, SCHEDULE, SCHEDULE.steps(4, "sgm_uniform"), dict.fromkeys(FLOWS, 2), diffuser, nullcontext, 2.0
    )
    names = []
    for name, loss in losses(model, torch.Generator().manual_seed(0)):
        names.append(name)
        model.zero_grad()
        loss.backward()
        sides = [
            any(p.grad is not None and p.grad.any() for p in part.parameters())
            for part in (model.student, model.discriminators)
        ]
        assert sides == ([False, True] if name.endswith("discriminator") else [True, False]), name
    assert names == [f"{kind}_to_{data}{side}" for data, kind in FLOWS for side in ("", "_discriminator")]
    assert all(p.grad is None for p in diffuser.parameters())


def test_the_generators_loss_by_hand(diffuser, flows):
    """Where the discriminator answers 0 the adversarial part is log 2, and the rest is the teacher's."""
    model = Adversaries(copy.deepcopy(diffuser).requires_grad_(True), CONFIG.diffuser, ["image"])
    nn.init.zeros_(model.discriminators["image"].out.weight)
    nn.init.zeros_(model.discriminators["image"].out.bias)
    nn.init.zeros_(model.discriminators["image"].readers["text"].layers[2].weight)
    nn.init.zeros_(model.discriminators["image"].readers["text"].layers[2].bias)
    walk = SCHEDULE.steps(4, "sgm_uniform")

    def first(cfg, weight):
        weights = AdversarialWeights(teacher=weight, r1=0)
        return next(
            ddgan_losses(flows, SCHEDULE, walk, {("image", "text"): 2}, diffuser, nullcontext, cfg, weights)(
                model, torch.Generator().manual_seed(3)
            )
        )[1]

    # at first the student is the teacher
    assert first(1.0, 5.0).item() == pytest.approx(math.log(2), abs=1e-5)
    assert first(2.0, 0.0).item() == pytest.approx(math.log(2), abs=1e-5)
    extra = [first(2.0, weight).item() - math.log(2) for weight in (1.0, 3.0)]
    assert extra[0] > 1e-4 and extra[1] == pytest.approx(3 * extra[0], rel=1e-3)


def test_consistency_holds_neighbours_together(diffuser, flows):
    """The loss is 0 for a student that always sees the guided path's end, here on the last step of it."""
    # one step: its end is timestep 0, where the data is the path's own
    grid = SCHEDULE.steps(1, "sgm_uniform")
    student = copy.deepcopy(diffuser).requires_grad_(True)
    losses = consistency_losses(
        flows, SCHEDULE, grid, {("image", "text"): 2, ("text", "image"): 2}, diffuser, nullcontext, 1.0
    )
    found = dict(losses(student, torch.Generator().manual_seed(0)))
    assert list(found) == ["text_to_image", "image_to_text"] and max(found.values()) < 1e-6
    losses = consistency_losses(
        flows, SCHEDULE, SCHEDULE.steps(20, "sgm_uniform"), {("image", "text"): 2}, diffuser, nullcontext, 2.0
    )
    ((_, loss),) = losses(student, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss > 1e-3 and any(p.grad is not None and p.grad.any() for p in student.parameters())


def test_a_stopped_run_goes_on_to_the_same_bits(diffuser, flows, tmp_path):
    def run(out, until=None):
        torch.manual_seed(0)
        model = Adversaries(copy.deepcopy(diffuser).requires_grad_(True), CONFIG.diffuser, ["image"])
        weights = AdversarialWeights(r1_every=2)
        losses = ddgan_losses(
            flows,
            SCHEDULE,
            SCHEDULE.steps(4, "sgm_uniform"),
            {("image", "text"): 2},
            diffuser,
            nullcontext,
            2.0,
            weights,
        )
        return fit(
            model, losses, out, steps=6, lr=1e-4, trained_on={}, save_every=3, until=until, betas=(0.5, 0.99)
        )

    whole = run(tmp_path / "whole").state_dict()
    run(tmp_path / "parts", until=3)
    parts = run(tmp_path / "parts").state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
