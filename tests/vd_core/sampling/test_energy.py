"""Energy guidance: Gaussian posteriors in closed form, finite differences, neutral settings, and what the
energies measure."""

import math

import pytest
import torch

from vd_core.config import ScheduleConfig
from vd_core.context import Context
from vd_core.encoders.clip import crop_center
from vd_core.energies import color_distance, embedding_distance, latent_distance
from vd_core.pictures import resize_and_crop
from vd_core.sampling.energy import Energy, steer, steer_eps
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import predict_x0, run_sampler
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
PRIOR, OBSERVATION = 0.64, 0.25  # variances of the data, and of what is observed of it


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def gaussian(x, t):
    """Return the exact noise in x for data N(0, PRIOR)."""
    alpha = float(SCHEDULE.alphas_cumprod[t])
    return math.sqrt(1 - alpha) / (alpha * PRIOR + 1 - alpha) * x


def squares(wanted):
    return lambda x0, alpha: (x0 - wanted).square().sum(dim=tuple(range(1, x0.ndim))) / 2


def steer_at(x, energies, alpha=0.3, denoise=torch.sin):
    return steer_eps(denoise, x, alpha, energies, lambda x0: x0)


# The formula


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m", "unipc"])
def test_guided_samples_follow_the_posterior_of_a_gaussian(sampler):
    """Data N(0, PRIOR), y = data + noise of variance OBSERVATION. log p(y | x_t) is exact: y is
    N(x0^, Var(x0 | x_t) + OBSERVATION). The sampler takes the k-sigma point of the noised posterior at the
    first step to that of the last one, its mean (k = 0) for one."""
    y, k = (
        torch.tensor([[0.8], [-1.5]], dtype=torch.float64),
        torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64),
    )
    variance = 1 / (1 / PRIOR + 1 / OBSERVATION)
    mean = variance / OBSERVATION * y
    steps = SCHEDULE.steps(200, "quadratic")

    def quantile(alpha):
        return (math.sqrt(alpha) * mean[:, None] + math.sqrt(alpha * variance + 1 - alpha) * k).reshape(-1, 1)

    def log_p(x0, alpha):
        rest = PRIOR * (1 - alpha) / (alpha * PRIOR + 1 - alpha)
        return squares(y.repeat_interleave(3, dim=0))(x0, alpha) / (rest + OBSERVATION)

    guided = steer(gaussian, SCHEDULE, [Energy(log_p, relative=False)])
    result = run_sampler(
        guided, quantile(float(steps.alphas_cumprod[0])), steps, lambda: torch.zeros(6, 1), Sampling(sampler)
    )
    torch.testing.assert_close(result, quantile(float(steps.alphas_cumprod[-1])), atol=0.01, rtol=0)


def test_gradient_is_that_of_finite_differences(model):
    """Through x0 and through the network, random weights in float64."""
    network = model.diffuser.double()
    x, wanted, context = (
        draw(2, 4, 8, 8, dtype=torch.float64),
        draw(2, 4, 8, 8, dtype=torch.float64),
        draw(1, 7, 40, dtype=torch.float64),
    )
    alpha, strength = 0.4, 0.7

    def denoise(x):
        return network(x, torch.full((2,), 500), [Context("text", context.expand(2, -1, -1))], "image")

    def energy(x0, alpha):
        return x0.sub(wanted).square().sum(dim=(1, 2, 3)) + x0.sin().sum(dim=(1, 2, 3))

    try:
        with torch.no_grad():
            change = steer_at(x, [Energy(energy, strength, relative=False)], alpha, denoise) - denoise(x)

            def total(x):
                return energy(predict_x0(x, denoise(x), alpha), alpha).sum()

            for seed in range(3):
                v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
                slope = (total(x + 1e-5 * v) - total(x - 1e-5 * v)) / 2e-5
                torch.testing.assert_close(
                    (change * v).sum(), strength * math.sqrt(1 - alpha) * slope, rtol=1e-6, atol=1e-8
                )
    finally:
        network.float()


def test_two_energies_add_up_and_the_fast_gradient_goes_around_the_network():
    x, one, two = draw(2, 3), squares(draw(2, 3)), squares(draw(1, 3))
    both = steer_at(x, [Energy(one, 0.3, relative=False), Energy(two, 0.2, relative=False)])
    alone = (
        steer_at(x, [Energy(one, 0.3, relative=False)])
        + steer_at(x, [Energy(two, 0.2, relative=False)])
        - x.sin()
    )
    torch.testing.assert_close(both, alone)
    alpha, x0 = 0.3, predict_x0(x, x.sin(), 0.3)
    fast = steer_at(x, [Energy(one, 0.3, relative=False, exact=False)])
    torch.testing.assert_close(
        fast, x.sin() + 0.3 * math.sqrt(1 - alpha) * (x0 - draw(2, 3)) / math.sqrt(alpha)
    )
    constant = draw(1, 3)
    exact, fast = (
        steer_at(x, [Energy(one, 0.3, exact=way)], denoise=lambda x: constant.expand_as(x))
        for way in (True, False)
    )
    torch.testing.assert_close(exact, fast)


@pytest.mark.parametrize("exact", [True, False])
def test_strength_1_takes_squares_to_0_and_less_that_share_of_the_way(exact):
    """Where the network's Jacobian is a number: for Gaussian data."""
    x, wanted, alpha = draw(2, 4), draw(2, 4), float(SCHEDULE.alphas_cumprod[400])
    x0 = predict_x0(x, gaussian(x, 400), alpha)
    for strength in (0.25, 1.0):
        eps = steer_at(x, [Energy(squares(wanted), strength, exact=exact)], alpha, lambda x: gaussian(x, 400))
        torch.testing.assert_close(
            predict_x0(x, eps, alpha), torch.lerp(x0, wanted, strength), rtol=1e-4, atol=1e-5
        )


def test_units_of_a_relative_energy_do_not_matter():
    x, wanted = draw(2, 5), draw(2, 5)
    first, second = (
        steer_at(x, [Energy(lambda x0, a, f=factor: f * squares(wanted)(x0, a), 0.4)]) for factor in (1, 1000)
    )
    torch.testing.assert_close(first, second)


def test_nothing_is_steered_without_strength_outside_the_interval_or_at_the_goal():
    def denoise(x, t):
        return torch.sin(x) * t

    x, energy = draw(2, 3), squares(draw(2, 3))
    assert steer(denoise, SCHEDULE, []) is denoise
    for neutral in (Energy(energy, 0.0), Energy(energy, start=0.6), Energy(energy, end=0.4)):
        assert torch.equal(steer(denoise, SCHEDULE, [neutral])(x, 500), denoise(x, 500))
    changed = steer(denoise, SCHEDULE, [Energy(energy, start=0.4, end=0.6)])
    assert not torch.equal(changed(x, 500), denoise(x, 500))
    # the end is part of the whole
    assert not torch.equal(steer(denoise, SCHEDULE, [Energy(energy)])(x, 0), denoise(x, 0))
    there = predict_x0(x, x.sin(), 0.3)
    assert torch.equal(steer_at(x, [Energy(squares(there))]), x.sin())


def test_each_sample_is_steered_for_itself():
    x, wanted = draw(3, 4), draw(1, 4)
    whole = steer_at(x, [Energy(squares(wanted), 0.3)])
    torch.testing.assert_close(
        whole, torch.cat([steer_at(row[None], [Energy(squares(wanted), 0.3)]) for row in x])
    )


def test_weights_and_data_of_inference_mode_are_no_obstacle():
    weight, x, wanted = draw(4, 4), draw(2, 4), draw(1, 4)
    expected = steer_at(x, [Energy(squares(wanted), 0.3)], denoise=lambda x: torch.sin(x @ weight))
    with torch.inference_mode():
        frozen, noisy, goal = torch.nn.Parameter(weight.clone()), x.clone(), wanted.clone()
        assert frozen.is_inference() and torch.equal(noisy, x)
        result = steer_at(noisy, [Energy(squares(goal), 0.3)], denoise=lambda x: torch.sin(x @ frozen))
        assert not result.requires_grad
    torch.testing.assert_close(result, expected)


def test_additions_in_place_are_no_obstacle():
    """What LayerNorm saved for its gradient is overwritten here, as in ComfyUI's CLIP; and a part of a whole
    is written into."""
    x, wanted = draw(2, 4), draw(1, 4)

    def in_place(x):
        h = x.sin()
        h += torch.nn.functional.layer_norm(h, (4,))
        h *= h.cos()
        total = torch.zeros(2, 4)
        part = total[:1]
        part += h[:1]
        total[1:] += h[1:]
        return total

    def out_of_place(x):
        h = x.sin()
        h = h + torch.nn.functional.layer_norm(h, (4,))
        return h * h.cos()

    one, two = (
        steer_at(x, [Energy(squares(wanted), 0.3)], denoise=denoise) for denoise in (in_place, out_of_place)
    )
    assert torch.equal(one, two)


def test_a_flow_looks_at_unscaled_latents(model):
    """And without energies, or with none that acts, it is what it was."""
    context, seen = [model.encode_text(["red apple"])], []

    def sample(*energies):
        return model.sample(
            "image", context, torch.zeros(2, 4, 8, 8), 0, Sampling(steps=3, cfg=2, energies=energies)
        )

    def energy(latents, alpha):
        seen.append(latents.detach())
        return latents.square().mean(dim=(1, 2, 3))

    plain = sample()
    assert torch.equal(sample(Energy(energy, 0.0)), plain)
    norms = [
        float(sample(Energy(energy, strength, exact=exact)).norm())
        for strength in (0.2, 0.5)
        for exact in (True, False)
    ]
    assert max(norms) < plain.norm() and norms[2] < norms[0] and norms[3] < norms[1]
    last = sample(Energy(energy, 1e-9, start=0.9))
    torch.testing.assert_close(seen[-1], last, rtol=0.2, atol=0.2)  # the last prediction, all but the result


# The energies


def test_distance_of_latents_is_the_mean_square_under_the_mask():
    latents, wanted = draw(2, 4, 8, 8), draw(1, 4, 8, 8)
    torch.testing.assert_close(
        latent_distance(latents, wanted), (latents - wanted).square().mean(dim=(1, 2, 3))
    )
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    torch.testing.assert_close(
        latent_distance(latents, wanted, mask), (latents - wanted)[..., :4].square().mean(dim=(1, 2, 3))
    )
    torch.testing.assert_close(
        latent_distance(latents, wanted, mask * 0.3), latent_distance(latents, wanted, mask)
    )
    outside = torch.cat([wanted[..., :4], latents[:1, ..., 4:]], dim=3)
    assert latent_distance(outside, wanted, mask).item() == 0


def test_distance_of_colours_in_closed_form():
    """0 for other places and sizes; |c|² / 3 for an offset; the squared difference of means where both have
    one colour."""
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shuffled = pictures.flatten(2)[..., draw(64).argsort()].reshape(2, 3, 8, 8)
    assert color_distance(pictures, shuffled).max() < 1e-15
    assert color_distance(pictures, pictures.repeat_interleave(2, 2).repeat_interleave(2, 3)).max() < 1e-12
    offset = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(
        color_distance(pictures, pictures + offset), torch.full((2,), 0.14 / 3, dtype=torch.float64)
    )
    swapped = pictures.flip(1)  # red is blue: the same means on average, other colours
    assert (color_distance(pictures, swapped) > 1e-4).all()


def test_distance_of_embeddings_is_one_minus_the_cosine():
    x = draw(2, 8)
    torch.testing.assert_close(embedding_distance(x, 3 * x), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(embedding_distance(x, -x), torch.full((2,), 2.0))


@torch.no_grad()
def test_differentiable_clip_sees_what_clip_sees(model):
    """Exactly where nothing is resized; all but the rounding to 8 bit elsewhere."""
    size = model.clip.config.image_size
    eight_bit = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)) / 255
    torch.testing.assert_close(
        model.clip.embed_image(eight_bit), model.clip.encode_image(eight_bit)[:, 0], rtol=1e-4, atol=1e-4
    )
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0)), (96, 144), mode="bicubic"
    ).clamp(0.1, 0.9)
    torch.testing.assert_close(
        crop_center(smooth, size), resize_and_crop(smooth, size), atol=2.5 / 255, rtol=0
    )


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda: latent_distance(draw(2, 4, 8, 8), draw(1, 4, 6, 8)), "in the size of the samples"),
        (
            lambda: latent_distance(draw(2, 4, 8, 8), draw(3, 4, 8, 8)),
            "use one picture, or one for each sample",
        ),
        (
            lambda: latent_distance(draw(2, 4, 8, 8), draw(1, 4, 8, 8), torch.zeros(1, 1, 8, 8)),
            "The mask is empty",
        ),
        (
            lambda: latent_distance(draw(2, 4, 8, 8), draw(1, 4, 8, 8), torch.ones(3, 1, 8, 8)),
            "There are 3 masks for 2 samples",
        ),
        (
            lambda: color_distance(torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8)),
            "There are 3 pictures with colours for 2 samples",
        ),
        (lambda: embedding_distance(draw(2, 8), draw(1, 9)), "a clip and a clip_vision of the same model"),
    ],
)
def test_what_does_not_fit_is_refused(action, sentence):
    with pytest.raises(ValueError, match=sentence):
        action()
