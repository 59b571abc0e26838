"""Noise masks: what is kept is kept to the last bit, and what is drawn fits to it."""

import pytest
import torch
from node_calls import draw, text

from vd_core.config import ScheduleConfig
from vd_core.sampling.generate import generate, invert
from vd_core.sampling.inpainting import inpaint
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import SAMPLERS
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SOURCE = batch_noise(1).draw((2, 3, 4, 6)).double()
MASK = torch.zeros(1, 1, 4, 6, dtype=torch.float64)
MASK[..., 3:] = 1
SOFT = torch.linspace(0, 1, 24, dtype=torch.float64).reshape(1, 1, 4, 6)


def neighbours(x, t):
    """Return a prediction that depends on the other side of the mask."""
    return (x + x.roll(1, -1)) / 2


def sampled(mask, denoise=neighbours, sampler="ddim", seed=0, start=None, **options):
    sampling = Sampling(sampler, steps=10, **options)
    return generate(denoise, SCHEDULE, SOURCE, batch_noise(seed), sampling, mask=mask, start=start)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("options", [{}, {"fidelity": 0.5}, {"eta": 1.0}])
def test_outside_the_mask_every_bit_is_the_source(sampler, options):
    out = sampled(MASK, sampler=sampler, **options)
    assert (
        torch.equal(out[..., :3], SOURCE[..., :3]) and not torch.isclose(out[..., 3:], SOURCE[..., 3:]).all()
    )
    assert torch.equal(sampled(torch.zeros_like(MASK), sampler=sampler, **options), SOURCE)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("options", [{}, {"fidelity": 0.5}, {"eta": 1.0}])
def test_a_mask_of_ones_is_no_mask_to_the_last_bit(sampler, options):
    assert torch.equal(
        sampled(torch.ones_like(MASK), sampler=sampler, **options), sampled(None, sampler=sampler, **options)
    )


@pytest.mark.parametrize("mask", [MASK, SOFT])
def test_the_network_sees_the_diffused_source_outside_and_leads_there(mask):
    noise, x, t = batch_noise(2).draw(SOURCE.shape).double(), batch_noise(3).draw(SOURCE.shape).double(), 501
    seen = []
    eps = inpaint(lambda x, t: seen.append(x) or neighbours(x, t), SCHEDULE, SOURCE, noise, mask)(x, t)
    torch.testing.assert_close(seen[0], mask * x + (1 - mask) * SCHEDULE.q_sample(SOURCE, t, noise))
    alpha = SCHEDULE.alphas_cumprod[t].item()
    x0, free = (
        (z - (1 - alpha) ** 0.5 * e) / alpha**0.5 for z, e in ((x, eps), (seen[0], neighbours(seen[0], t)))
    )
    torch.testing.assert_close(x0, mask * free + (1 - mask) * SOURCE, rtol=1e-5, atol=1e-5)


def test_the_known_part_is_diffused_with_the_noise_of_the_start():
    """So at the first step everything is the start: what was inverted goes on as it began."""
    seen, steps = [], SCHEDULE.steps(10)
    start = invert(neighbours, SCHEDULE, SOURCE, Sampling(steps=10))
    sampled(MASK, lambda x, t: seen.append(x) or neighbours(x, t), start=start)
    torch.testing.assert_close(seen[0], start * steps.alphas_cumprod[0].sqrt(), rtol=1e-5, atol=1e-5)


def test_a_mask_draws_no_more_noise():
    for options in ({}, {"eta": 1.0}, {"fidelity": 0.5}):
        plain, masked = batch_noise(0), batch_noise(0)
        for noise, mask in ((plain, None), (masked, MASK)):
            generate(neighbours, SCHEDULE, SOURCE, noise, Sampling(steps=10, **options), mask=mask)
        assert plain.drawn == masked.drawn


@pytest.mark.parametrize(("flow", "shape"), [("image_model", (2, 4, 8, 8)), ("text_model", (2, 24, 1, 1))])
def test_the_sampler_node_keeps_every_bit_of_an_unscaled_latent(nodes, loaded, flow, shape):
    contexts = text(nodes, loaded)
    latent = {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 5}
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    if flow == "text_model":  # of one pixel: a mask per text
        mask = torch.tensor([0.0, 1.0]).reshape(2, 1, 1)
    masked = {**latent, "noise_mask": mask.reshape(-1, 1, *mask.shape[-2:])}
    out = draw(nodes, loaded, contexts, masked, flow, sampler="dpmpp_2m", steps=4)
    kept = (..., slice(0, 4)) if flow == "image_model" else (0,)
    drawn = (..., slice(4, 8)) if flow == "image_model" else (1,)
    assert (
        torch.equal(out[kept], latent["samples"][kept])
        and not torch.isclose(out[drawn], latent["samples"][drawn]).any()
    )
    whole = {**latent, "noise_mask": torch.ones(1, 1, 7, 5)}
    assert torch.equal(
        draw(nodes, loaded, contexts, whole, flow, steps=4),
        draw(nodes, loaded, contexts, latent, flow, steps=4),
    )
