"""The published refinements of the diffusion loss: identities and closed forms."""

import pytest
import torch
import torch.nn.functional as F

from vd_core.config import ScheduleConfig
from vd_core.sampling.schedule import Schedule
from vd_core.sampling.shift import ResolutionShift
from vd_core.training.diffuser import FlowData, flow_losses
from vd_core.training.loss import Refinements, flow_loss, min_snr_weights, multiscale_errors

SCHEDULES = {prediction: Schedule(ScheduleConfig(prediction=prediction)) for prediction in ("eps", "v")}
EVERY = torch.arange(1000)


def snr(t=EVERY):
    alphas = SCHEDULES["eps"].alphas_cumprod[t].double()
    return alphas / (1 - alphas)


def loss(refinements, prediction="eps", side=8, t=(10, 700)):
    torch.manual_seed(0)
    x0, noise = torch.randn(2, 4, side, side), torch.randn(2, 4, side, side)
    predict = lambda x, t, contexts, data: 0.5 * x  # noqa: E731
    return flow_loss(
        predict,
        SCHEDULES[prediction],
        "image",
        "text",
        x0,
        torch.tensor(t),
        noise,
        torch.zeros(2, 3, 40),
        refinements,
    )


def test_neutral_settings_change_nothing_bit_for_bit():
    plain = loss(Refinements())
    torch.testing.assert_close(loss(Refinements(multiscale=8)), plain)
    torch.testing.assert_close(loss(Refinements(min_snr=1e9)), plain)  # of the noise: min(SNR, ∞) / SNR = 1


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_min_snr_weighs_the_error_of_x0_by_min_snr(prediction):
    """An error d of the output is one of x0; its square times the weight is min(SNR, gamma) times that of
    x0."""
    schedule, gamma = SCHEDULES[prediction], 5.0
    t = EVERY[::37]
    x0, noise, d = torch.randn(len(t), 3), torch.randn(len(t), 3), 0.1 * torch.randn(len(t), 3)
    x, target = schedule.q_sample(x0, t, noise).double(), schedule.target(x0, t, noise).double()
    alpha, sigma = (
        f(schedule.alphas_cumprod[t].double())[:, None] for f in (torch.sqrt, lambda a: torch.sqrt(1 - a))
    )
    eps = schedule.to_eps(x.float(), (target + d).float(), t).double()
    error = (x - sigma * eps) / alpha - x0
    expected = snr(t).clamp(max=gamma)[:, None] * error.square()
    found = min_snr_weights(schedule, t, gamma)[:, None].double() * d.double().square()
    torch.testing.assert_close(found.sum(1), expected.sum(1), rtol=0.02, atol=1e-5)


def test_min_snr_enters_the_loss_per_sample():
    both = loss(Refinements(min_snr=5.0))
    weights = min_snr_weights(SCHEDULES["eps"], torch.tensor([10, 700]), 5.0)
    torch.manual_seed(0)
    x0, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    x = SCHEDULES["eps"].q_sample(x0, torch.tensor([10, 700]), noise)
    errors = (0.5 * x - noise).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(both, (weights * errors).mean())


def test_multiscale_is_the_weighted_sum_over_sizes():
    difference = torch.randn(3, 4, 16, 16)
    halves, quarters = F.avg_pool2d(difference, 2), F.avg_pool2d(difference, 4)
    means = [d.square().mean(dim=(1, 2, 3)) for d in (difference, halves, quarters)]
    expected = (means[0] / 16 + means[1] / 8 + means[2] / 4) / (1 / 16 + 1 / 8 + 1 / 4)
    torch.testing.assert_close(multiscale_errors(difference, 4), expected)
    # constants are the same everywhere
    torch.testing.assert_close(multiscale_errors(torch.full((1, 4, 16, 16), 3.0), 2), torch.tensor([9.0]))
    torch.testing.assert_close(
        multiscale_errors(difference[..., :15, :15], 4),
        difference[..., :15, :15].square().mean(dim=(1, 2, 3)),
    )
    assert multiscale_errors(torch.randn(3, 24), 4).shape == (3,)


def test_shifted_levels_are_drawn_for_pictures_only():
    seen = []

    class Seeing(torch.nn.Module):
        def forward(self, x, t, contexts, data):
            seen.append((data, t.clone()))
            return x

    shift = ResolutionShift.of_size(16, 16, 8)
    levels = torch.from_numpy(Schedule(ScheduleConfig(), shift).shifted_timesteps())
    assert shift == ResolutionShift(2.0, 2.0) and (levels[1:-1] > torch.arange(1, 999)).float().mean() > 0.9
    tokens = {"text": torch.zeros(2, 3, 40)}
    flows = FlowData({"image": torch.randn(2, 4, 16, 16), "text": torch.randn(2, 24)}, tokens, tokens)
    for chosen in ({}, {"image": levels}):
        losses = flow_losses(
            flows, SCHEDULES["eps"], {("image", "text"): 64, ("text", "text"): 64}, levels=chosen
        )
        list(losses(Seeing(), torch.Generator().manual_seed(0)))
    (_, plain), (_, words), (_, shifted), (_, same) = seen
    assert torch.equal(shifted, levels[plain]) and torch.equal(words, same)


@pytest.mark.parametrize("name", ["min_snr", "multiscale"])
def test_settings_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        Refinements(**{name: 0})
