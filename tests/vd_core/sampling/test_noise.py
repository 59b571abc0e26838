"""Random numbers: official seeded draws, and streams per sample."""

import pytest
import torch

from vd_core.sampling.noise import batch_noise, sample_noise

SHAPE = (4, 8, 6)


@pytest.mark.parametrize("seed", [0, 120, 2**32, 2**63, 2**64 - 1])
def test_batch_noise_is_the_official_stream(seed):
    torch.manual_seed(seed)
    expected = [torch.randn(2, *SHAPE) for _ in range(3)]
    noise = batch_noise(seed)
    for values in expected:
        assert torch.equal(noise.draw((2, *SHAPE)), values)
    # and whoever draws next goes on from there
    assert torch.equal(torch.rand(5, generator=noise.generator), torch.rand(5))


def test_batch_noise_leaves_the_global_stream_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    batch_noise(5).draw((2, 3))
    sample_noise(5).draw((2, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_no_sample_depends_on_the_size_of_its_batch():
    whole, one, rest = sample_noise(7), sample_noise(7), sample_noise(7, rows=[1, 2, 3])
    for _ in range(3):
        draw = whole.draw((4, *SHAPE))
        assert draw.shape == (4, *SHAPE)
        assert torch.equal(one.draw((1, *SHAPE)), draw[:1])
        assert torch.equal(rest.draw((3, *SHAPE)), draw[1:])
    assert len(whole.generators) == 4 and len(one.generators) == 1
    assert torch.equal(
        torch.rand(5, generator=whole.generators[2]), torch.rand(5, generator=rest.generators[1])
    )


def test_sample_0_has_the_stream_of_the_plain_seed():
    assert torch.equal(sample_noise(7).draw((3, *SHAPE))[0], batch_noise(7).draw(SHAPE))


def test_a_batch_may_grow():
    noise, reference = sample_noise(3), sample_noise(3)
    noise.draw((1, 5))
    first, second = reference.draw((2, 5)), reference.draw((2, 5))
    assert torch.equal(noise.draw((2, 5)), torch.stack([second[0], first[1]]))


@pytest.mark.parametrize("seed", [0, 2**32 - 3, 2**63, 2**64 - 4])
def test_neighbouring_seeds_share_no_samples(seed):
    firsts = [
        tuple(sample) for s in range(seed, seed + 4) for sample in sample_noise(s).draw((64, 4)).tolist()
    ]
    assert len(set(firsts)) == 4 * 64


def test_draws_are_normal_and_uncorrelated():
    draw = sample_noise(11).draw((64, 4096)).double()
    assert draw.dtype == torch.float64 and draw.mean().abs() < 0.01 and (draw.std() - 1).abs() < 0.01
    correlation = torch.corrcoef(draw) - torch.eye(64)
    assert correlation.abs().max() < 0.1


def test_draws_are_float32_on_the_cpu_whatever_the_defaults():
    torch.set_default_dtype(torch.float64)
    try:
        for noise in (batch_noise(1), sample_noise(1)):
            assert noise.draw((2, 3)).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
