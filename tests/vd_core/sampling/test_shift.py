"""The resolution shift: noise for latents of another size than the trained one."""

from dataclasses import astuple
from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from node_calls import draw, text

from vd_core.config import ScheduleConfig, VDConfig
from vd_core.embedded import MODEL
from vd_core.sampling.schedule import SPACINGS, Schedule
from vd_core.sampling.shift import UNSHIFTED, ResolutionShift

PLAIN = Schedule(ScheduleConfig())
LOG_SIGMAS = PLAIN.sigmas(torch.arange(1000)).double().log().numpy()


def test_the_trained_size_changes_no_bit():
    for shift in (
        UNSHIFTED,
        ResolutionShift.of_size(64, 64, 64),
        ResolutionShift.of_size(32, 128, 64),
        ResolutionShift.of_size(9, 7, 64, 0, 0),
    ):
        assert np.array_equal(shift.log_sigmas(LOG_SIGMAS), LOG_SIGMAS)
        schedule = Schedule(ScheduleConfig(), shift)
        for n in (1, 2, 50, 999, 1000):
            for spacing in SPACINGS:
                shifted, plain = schedule.steps(n, spacing), PLAIN.steps(n, spacing)
                assert torch.equal(shifted.timesteps, plain.timesteps)
                assert torch.equal(shifted.alphas_cumprod, plain.alphas_cumprod)


@pytest.mark.parametrize("scale", [2, 4])
def test_averaged_noise_has_the_log_snr_of_the_trained_size(scale):
    """Monte Carlo: a picture at `scale` times the side with shifted noise, averaged down, is the small
    picture with its own noise."""
    noise = torch.randn(1, 16, 64 * scale, 64 * scale, generator=torch.Generator().manual_seed(0))
    levels = ResolutionShift.of_size(64 * scale, 64 * scale, 64).log_sigmas(LOG_SIGMAS)
    # stronger noise would leave the trained range
    end = np.interp(LOG_SIGMAS[-1] - log(scale), LOG_SIGMAS, np.arange(1000))
    for t in (0, 300, 999):
        small = np.interp(t * end / 999, np.arange(1000), LOG_SIGMAS)
        averaged = F.avg_pool2d(noise * float(np.exp(levels[t])), scale)
        assert -2 * averaged.std().log().item() == pytest.approx(-2 * small, abs=0.02)


@pytest.mark.parametrize(
    "shift", [ResolutionShift(2, 2), ResolutionShift(4, 1), ResolutionShift(0.5, 0.5), ResolutionShift(1, 2)]
)
def test_shifted_levels_are_monotone_and_within_the_trained_range(shift):
    levels = shift.log_sigmas(LOG_SIGMAS)
    assert (np.diff(levels) > 0).all() and len(levels) == 1000
    assert levels[0] >= LOG_SIGMAS[0] and levels[-1] <= LOG_SIGMAS[-1]
    for n in (1, 2, 10, 50, 1000):
        for spacing in SPACINGS:
            steps = Schedule(ScheduleConfig(), shift).steps(n, spacing)  # checks that it goes down
            # where they are denser than timesteps, some fall together
            assert len(steps) >= 0.9 * n or n == 1000
            assert torch.equal(
                steps.alphas_cumprod, PLAIN.alphas_cumprod[[*steps.timesteps.tolist(), 0]].double()
            )


def test_interpolated_levels_go_from_one_shift_to_the_other():
    """Downwards both ends stay in the range, so nothing is left out: t shift_noisy + (1 - t) shift_clean to
    the letter."""
    noisy, clean = ResolutionShift(0.8, 0.8), ResolutionShift(1, 1)
    t = np.arange(1000) / 999
    mixed = ResolutionShift(0.8, 1).log_sigmas(LOG_SIGMAS)
    expected = t * (LOG_SIGMAS + log(noisy.noisy)) + (1 - t) * (LOG_SIGMAS + log(clean.clean))
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-12)
    up = ResolutionShift.of_size(16, 16, 8, noisy=1, clean=0).log_sigmas(LOG_SIGMAS)
    assert up[0] == LOG_SIGMAS[0] and up[-1] == pytest.approx(LOG_SIGMAS[-1])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="sides above 0 and shares of at least 0, got 8, 8, 0"):
        ResolutionShift.of_size(8, 8, 0)
    with pytest.raises(
        ValueError, match="shift at the clean end .10000. is too large for that at the noisy end"
    ):
        ResolutionShift(1, 10000).log_sigmas(LOG_SIGMAS)


def test_models_know_the_side_of_their_latents():
    from vd_core.checkpoints.load import open_checkpoints

    assert VDConfig().diffuser.data["image"].side == 64
    assert open_checkpoints(MODEL)[1].diffuser.data["image"].side == 8
    values = VDConfig().to_dict()
    del values["diffuser"]["data"]["image"]["side"]  # of files from before
    assert VDConfig.from_dict(values) == VDConfig()


def shifted(nodes, loaded, latent, model="image_model", **inputs):
    return nodes["VD_ResolutionShift"](model=loaded[model], latent_image=latent, **inputs)[0]


def test_the_node_shifts_by_the_size_and_the_sampler_follows(nodes, loaded):
    small, large = ({"samples": torch.zeros(1, 4, side, side)} for side in (8, 16))
    assert astuple(shifted(nodes, loaded, small).shift) == (1, 1)
    assert astuple(shifted(nodes, loaded, large).shift) == (2, 2)
    assert astuple(shifted(nodes, loaded, large, clean=0.0).shift) == (2, 1)
    assert astuple(shifted(nodes, loaded, large, trained_side=16).shift) == (1, 1)
    contexts = text(nodes, loaded)
    for latent, changes in ((small, False), (large, True)):
        plain = draw(nodes, loaded, contexts, latent, steps=3)
        out = draw(nodes, {"x": shifted(nodes, loaded, latent)}, contexts, latent, "x", steps=3)
        assert torch.equal(plain, out) != changes
    assert astuple(loaded["image_model"].shift) == (1, 1)  # the model that came in is as before
    with pytest.raises(ValueError, match="works on pictures only"):
        shifted(nodes, loaded, {"samples": torch.zeros(1, 24, 1, 1)}, "text_model")
    with pytest.raises(ValueError, match="must hold latents"):
        shifted(nodes, loaded, {"samples": torch.zeros(1, 16, 1, 8, 8)})
