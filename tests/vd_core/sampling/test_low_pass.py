"""Low-pass guidance: phi(sample) = phi(source) at every step."""

import pytest
import torch
from node_calls import draw, text

from vd_core.config import ScheduleConfig
from vd_core.sampling.generate import generate
from vd_core.sampling.low_pass import LowPassGuidance, average_blocks, guide_low_pass
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import SAMPLERS
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SOURCE = batch_noise(1).draw((1, 3, 4, 8)).double()
LATENT = torch.zeros(2, 3, 4, 8, dtype=torch.float64)


def neighbours(x, t):
    """Any prediction."""
    return (x + x.roll(1, -1)) / 2


def sampled(tie, sampler="ddim", callback=None, scale=1.0, **options):
    denoise = guide_low_pass(neighbours, SCHEDULE, tie, scale)
    return generate(
        denoise, SCHEDULE, LATENT, batch_noise(0), Sampling(sampler, steps=10), callback=callback, **options
    )


def test_the_low_pass_is_a_projection_onto_block_means():
    once = average_blocks(SOURCE, 2)
    torch.testing.assert_close(average_blocks(once, 2), once)
    torch.testing.assert_close(once[0, 0, 0, :2], SOURCE[0, 0, :2, :2].mean().expand(2))
    assert torch.equal(average_blocks(SOURCE, 1), SOURCE)
    torch.testing.assert_close(average_blocks(SOURCE + LATENT[:1] + 2, 4), average_blocks(SOURCE, 4) + 2)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_what_each_step_predicts_has_the_low_pass_of_the_source(sampler, factor):
    predicted, scale = [], 0.5
    sampled(LowPassGuidance(SOURCE, factor), sampler, lambda i, total, x, x0: predicted.append(x0), scale)
    assert len(predicted) == 10 + (sampler == "pndm")  # which warms up
    for x0 in predicted:
        torch.testing.assert_close(
            average_blocks(x0, factor),
            average_blocks(scale * SOURCE, factor).expand_as(x0),
            rtol=1e-6,
            atol=1e-6,
        )


def test_for_ddim_that_is_ilvr_with_one_noise():
    """phi(x) = phi(q(source, t)) after every step."""
    states, steps, noise = [], SCHEDULE.steps(10), batch_noise(0).draw(LATENT.shape).double()
    start = (SOURCE + noise / (steps.alphas_cumprod[0] / (1 - steps.alphas_cumprod[0])).sqrt()).expand_as(
        LATENT
    )
    sampled(LowPassGuidance(SOURCE, 2), "ddim", lambda i, total, x, x0: states.append(x), start=start)
    for t, x in zip([*steps.timesteps[1:].tolist(), 0], states, strict=True):
        torch.testing.assert_close(
            average_blocks(x, 2),
            average_blocks(SCHEDULE.q_sample(SOURCE.expand_as(x), t, noise), 2),
            rtol=1e-5,
            atol=1e-5,
        )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_0_changes_no_bit_and_the_tie_ends(sampler):
    plain = sampled(None, sampler)
    assert torch.equal(sampled(LowPassGuidance(SOURCE, 2, strength=0.0), sampler), plain)
    assert not torch.isclose(sampled(LowPassGuidance(SOURCE, 2, end=0.3), sampler), plain).all()
    asked = []
    denoise = guide_low_pass(
        lambda x, t: neighbours(x, t), SCHEDULE, LowPassGuidance(SOURCE, 2, end=0.5), 1.0
    )
    for t in (900, 500, 499, 100):
        x = batch_noise(t).draw(LATENT.shape).double()
        asked.append(torch.equal(denoise(x, t), neighbours(x, t)))
    assert asked == [False, False, True, True]


def test_strength_is_how_much_of_the_way_is_gone():
    x, t = batch_noise(4).draw(LATENT.shape).double(), 401
    predictions = []
    for strength in (0.0, 0.25, 1.0):
        eps = guide_low_pass(neighbours, SCHEDULE, LowPassGuidance(SOURCE, 2, strength), 1.0)(x, t)
        alpha = SCHEDULE.alphas_cumprod[t].item()
        predictions.append(average_blocks((x - (1 - alpha) ** 0.5 * eps) / alpha**0.5, 2))
    torch.testing.assert_close(predictions[1], 0.75 * predictions[0] + 0.25 * predictions[2])


def test_the_node_ties_the_sampler(nodes, loaded):
    contexts, source = text(nodes, loaded), {"samples": batch_noise(1).draw((1, 4, 8, 8)) * 5}

    def tied_to(latent, model="image_model", **inputs):
        return {"x": nodes["VD_LowPassTie"](model=loaded[model], latent_image=latent, **inputs)[0]}

    plain = draw(nodes, loaded, contexts)
    assert torch.equal(draw(nodes, tied_to(source, strength=0.0), contexts, model="x"), plain)
    out = draw(nodes, tied_to(source, factor=4), contexts, model="x")
    off = [
        (average_blocks(z, 4) - average_blocks(source["samples"], 4)).square().mean().sqrt().item()
        for z in (out, plain)
    ]
    assert off[0] < off[1] / 5  # the official end keeps a little noise
    with pytest.raises(
        ValueError, match=r"must divide the height and width of its source, got 3 for \[1, 4, 8, 8\]"
    ):
        tied_to(source, factor=3)
    with pytest.raises(
        ValueError,
        match=r"source of the low-pass guidance, \[1, 4, 16, 16\], does not fit samples \[2, 4, 8, 8\]",
    ):
        draw(nodes, tied_to({"samples": torch.zeros(1, 4, 16, 16)}), contexts, model="x")
    with pytest.raises(ValueError, match="works on pictures only"):
        tied_to({"samples": torch.zeros(1, 24, 1, 1)}, "text_model", factor=1)
