"""The image autoencoder: what it computes around its network, its refusals, and how it is built."""

import pytest
import torch
from rounding import assert_rounded

from vd_core.autoencoders.image_kl import AutoencoderKL, Downsample
from vd_core.config import ImageVAEConfig, VDConfig


@pytest.fixture(scope="module")
def vae(model):
    return model.image_vae


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def latents():
    return torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_shapes(vae, images, latents):
    assert vae.factor == 8
    mean, logvar = vae.moments(images)
    assert mean.shape == logvar.shape == vae.encode(images).shape == (2, 4, 4, 6)
    assert vae.decode(latents).shape == (2, 3, 32, 48)


@pytest.mark.parametrize("channel_mult", [(1,), (1, 2), (2, 1, 3)])
def test_the_factor_follows_the_levels(channel_mult):
    vae = AutoencoderKL(
        ImageVAEConfig(channels=32, channel_mult=channel_mult, num_res_blocks=1, latent_channels=2)
    )
    factor = 2 ** (len(channel_mult) - 1)
    with torch.no_grad():
        latents = vae.encode(torch.rand(1, 3, 2 * factor, 3 * factor))
        assert vae.factor == factor and latents.shape == (1, 2, 2, 3)
        assert vae.decode(latents).shape == (1, 3, 2 * factor, 3 * factor)


@torch.no_grad()
def test_encode_is_the_mean_or_a_sample(vae, images):
    mean, logvar = vae.moments(images)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(vae.encode(images), mean)
    torch.testing.assert_close(vae.encode(images, noise), mean + logvar.exp().sqrt() * noise)
    assert torch.equal(vae.encode(images, torch.zeros_like(mean)), mean)


@pytest.mark.parametrize("bias, expected", [(1e4, 20.0), (-1e4, -30.0)])
def test_the_log_variance_is_clamped_and_the_mean_is_not(config, images, bias, expected):
    vae = AutoencoderKL(config.image_vae)
    with torch.no_grad():
        vae.quant_conv.bias.fill_(bias)
        mean, logvar = vae.moments(images)
    assert torch.equal(logvar, torch.full_like(logvar, expected))
    assert (mean / bias > 0.9).all()


@torch.no_grad()
def test_decode_clamps_and_decode_unclamped_does_not(vae, latents):
    unclamped = vae.decode_unclamped(20 * latents)
    assert unclamped.min() < 0 and unclamped.max() > 1
    assert torch.equal(vae.decode(20 * latents), unclamped.clamp(0, 1))


@torch.no_grad()
def test_black_and_white_enter_as_minus_one_and_one(vae):
    seen = []
    hook = vae.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for value in (0.0, 1.0):
        vae.moments(torch.full((1, 3, 16, 16), value))
    hook.remove()
    assert [x.unique().tolist() for x in seen] == [[-1.0], [1.0]]


@torch.no_grad()
def test_the_output_minus_one_to_one_becomes_zero_to_one(config, latents):
    vae = AutoencoderKL(config.image_vae)
    vae.decoder.conv_out.weight.zero_()
    vae.decoder.conv_out.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    assert vae.decode_unclamped(latents)[0, :, 0, 0].tolist() == [0.0, 0.5, 1.0]


@torch.no_grad()
def test_each_picture_alone_gives_what_it_gives_in_a_batch(vae, images, latents):
    alone = torch.cat([vae.encode(image[None]) for image in images])
    assert_rounded(vae.encode(images), alone)
    alone = torch.cat([vae.decode(latent[None]) for latent in latents])
    assert_rounded(vae.decode(latents), alone)


@torch.no_grad()
def test_downsampling_pads_on_the_right_and_at_the_bottom_only():
    down = Downsample(1)
    down.conv.weight.zero_()
    down.conv.bias.zero_()
    down.conv.weight[0, 0, 2, 2] = 1  # the tap that reaches farthest to the right and down
    x = torch.rand(1, 1, 6, 4)
    expected = torch.nn.functional.pad(x[..., 2::2, 2::2], (0, 1, 0, 1))
    assert torch.equal(down(x), expected)


def test_group_norms_are_the_official_ones(vae):
    norms = [module for module in vae.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms and all((norm.num_groups, norm.eps) == (32, 1e-6) for norm in norms)


def test_training_reaches_every_weight(config, images):
    vae = AutoencoderKL(config.image_vae)
    mean, logvar = vae.moments(images)
    vae.decode_unclamped(mean + logvar).square().sum().backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@torch.no_grad()
def test_built_on_meta_and_assigned(vae, images):
    with torch.device("meta"):
        empty = AutoencoderKL(vae.config)
    empty.load_state_dict(vae.state_dict(), strict=True, assign=True)
    assert torch.equal(empty.encode(images), vae.encode(images))


def test_size_of_the_released_model():
    with torch.device("meta"):
        vae = AutoencoderKL(VDConfig().image_vae)
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863


def test_it_starts_in_eval_mode(config):
    assert not AutoencoderKL(config.image_vae).training


@pytest.mark.parametrize(
    "shape, sentence",
    [
        ((1, 3, 32, 36), "sides must be divisible by 8, got 32x36"),
        ((1, 3, 12, 8), "sides must be divisible by 8, got 12x8"),
        ((3, 32, 32), "needs images"),
        ((1, 4, 32, 32), "needs images"),
        ((1, 3, 0, 32), "needs images"),
        ((0, 3, 32, 32), "needs images"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(vae, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        vae.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (4, 4, 4), (1, 4, 4, 0), (1, 4)])
def test_latents_that_do_not_fit_are_refused(vae, shape):
    with pytest.raises(ValueError, match="decodes latents"):
        vae.decode(torch.zeros(shape))
