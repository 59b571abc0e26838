"""Pictures that explain: what they plot are the numbers of the model."""

import pytest
import torch

from vd_core.config import ScheduleConfig
from vd_core.encoders.focus import compute_factors, focus
from vd_core.explain import (
    compute_curves,
    compute_similarity,
    diffuse_to_timesteps,
    draw_focus,
    draw_schedule,
    draw_similarity,
    find_visited,
    measure_focus,
    read_timesteps,
    write_labels,
)
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_curves_are_those_of_the_schedule():
    curves = compute_curves(SCHEDULE)
    torch.testing.assert_close(curves["alpha"].float(), SCHEDULE.buffers()["sqrt_alphas_cumprod"])
    torch.testing.assert_close(
        curves["sigma"].float(), SCHEDULE.buffers()["sqrt_one_minus_alphas_cumprod"], atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        curves["alpha"] ** 2 + curves["sigma"] ** 2, torch.ones(1000, dtype=torch.float64)
    )
    torch.testing.assert_close(curves["log_snr"], 2 * (curves["alpha"] / curves["sigma"]).log())
    assert (curves["log_snr"].diff() < 0).all()


@pytest.mark.parametrize(
    "sampler, spacing",
    [
        ("ddim", "official"),
        ("euler", "official"),
        ("dpmpp_2m", "quadratic"),
        ("unipc", "quadratic"),
        ("ddgan", "sgm_uniform"),
    ],
)
def test_visited_are_the_timesteps_at_which_the_sampler_calls_the_model(model, sampler, spacing):
    from vd_core.flows import VersatileDiffusion

    seen = find_visited(SCHEDULE, 6, sampler)
    assert torch.equal(seen, SCHEDULE.steps(6, spacing).timesteps)
    called = []

    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))  # its type is the type that it computes in

        def forward(self, x, timesteps, *rest, evaluations, **more):
            called.append(int(timesteps[0]))
            return torch.zeros_like(x).repeat(evaluations, 1, 1, 1)

    context = model.encode_text(["cat"])
    VersatileDiffusion(model.config, Spy()).sample(
        "image", [context], torch.zeros(1, 4, 8, 8), sample_noise(0), Sampling(sampler, steps=6, cfg=1)
    )
    assert sorted(set(called), reverse=True) == seen.tolist()


def test_the_picture_of_a_schedule_changes_with_steps_and_sampler():
    pictures = [
        draw_schedule(SCHEDULE, n, sampler) for n, sampler in ((5, "ddim"), (6, "ddim"), (5, "dpmpp_2m"))
    ]
    assert all(picture.shape == pictures[0].shape for picture in pictures)
    assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])


def test_the_forward_process_is_the_closed_form_with_one_noise():
    x0, stops = draw(1, 4, 8, 8), [0, 300, 999]
    latents = diffuse_to_timesteps(SCHEDULE, x0, stops, seed=5)
    noise = sample_noise(5).draw((1, 4, 8, 8))
    for latent, t in zip(latents, stops, strict=True):
        alphas_cumprod = SCHEDULE.alphas_cumprod[t]
        torch.testing.assert_close(
            latent[None], alphas_cumprod.sqrt() * x0 + (1 - alphas_cumprod).sqrt() * noise
        )


def test_the_forward_process_equals_its_single_steps():
    """q(x_t | x_t-1) step after step has the mean and the variance of q(x_t | x_0)."""
    betas, t = SCHEDULE.buffers()["betas"].double(), 400
    mean, variance = 1.0, 0.0
    for beta in betas[: t + 1].tolist():
        mean, variance = mean * (1 - beta) ** 0.5, variance * (1 - beta) + beta
    x0 = torch.ones(1, 1, 400, 400)
    latent = diffuse_to_timesteps(SCHEDULE, x0, [t], seed=0)
    assert float(latent.mean()) == pytest.approx(mean, abs=0.01) and float(latent.var()) == pytest.approx(
        variance, abs=0.01
    )


def test_labels_say_how_much_is_left():
    assert write_labels(SCHEDULE, [0, 999]) == [
        "t = 0: 1.00 data, 0.03 noise",
        "t = 999: 0.07 data, 1.00 noise",
    ]
    assert read_timesteps("0, 100 999", SCHEDULE) == [0, 100, 999]
    for text in ("", "1000", "-1", "half"):
        with pytest.raises(ValueError, match="from 0 .data. to 999 .noise."):
            read_timesteps(text, SCHEDULE)
    with pytest.raises(ValueError, match="of one picture, got 2"):
        diffuse_to_timesteps(SCHEDULE, draw(2, 4, 8, 8), [1], 0)


@pytest.mark.parametrize("level", [0.1, 0.4, 0.6, 0.9])
def test_the_spectrum_is_that_of_the_focused_tokens(level):
    patches = draw(60, 48)
    before, after = measure_focus(patches, level)
    torch.testing.assert_close(before, torch.linalg.svdvals(patches - patches.mean(dim=1, keepdim=True)))
    focused = focus(patches[None], level)[0]
    focused = focused - focused.mean(dim=1, keepdim=True)
    torch.testing.assert_close(
        after.sort(descending=True)[0], torch.linalg.svdvals(focused), atol=1e-3, rtol=1e-3
    )
    factors = compute_factors(level)
    kept = (after / before)[:20]
    torch.testing.assert_close(kept / kept.max(), factors / factors.max(), atol=1e-3, rtol=1e-3)
    assert (after[20:47] > 0.1).all() if level < 0.5 else after[20:].abs().max() < 1e-3


def test_a_focus_of_one_half_changes_no_component():
    before, after = measure_focus(draw(60, 48), 0.5)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert not torch.equal(draw_focus(draw(60, 48), 0.5), draw_focus(draw(60, 48), 0.2))
    assert draw_focus(torch.zeros(16, 8), 0.2).isfinite().all()


def test_similarity_is_the_cosine():
    first, second = draw(5, 8), draw(7, 8, seed=1)
    torch.testing.assert_close(
        compute_similarity(first, second), torch.cosine_similarity(first[:, None], second[None], dim=-1)
    )
    torch.testing.assert_close(compute_similarity(first, first).diagonal(), torch.ones(5))
    assert not compute_similarity(torch.zeros(1, 8), second).any()
    with pytest.raises(ValueError, match="contexts of one width can be compared, got 8 and 7"):
        compute_similarity(first, draw(5, 7))


def test_the_map_over_a_picture_needs_its_patches():
    alone, over = (
        draw_similarity(draw(17, 8), draw(9, 8)),
        draw_similarity(draw(17, 8), draw(9, 8), torch.rand(3, 32, 32)),
    )
    assert torch.equal(over[..., -alone.shape[3] :], alone) and over.shape[3] > alone.shape[3]
    with pytest.raises(ValueError, match="16 tokens, which is no square of patches and a global token"):
        draw_similarity(draw(16, 8), draw(9, 8), torch.rand(3, 32, 32))


def test_nodes_draw_one_picture_each(nodes, loaded):
    image = torch.rand(2, 64, 48, 3)
    seen = nodes["VD_ImageContext"](clip_vision=loaded["clip_vision"], image=image)
    said = nodes["VD_TextContext"](clip=loaded["clip"], text="red apple", negative_text="")
    pictures = [
        nodes["VD_ShowSchedule"](model=loaded["text_model"])[0],
        nodes["VD_ForwardProcess"](model=loaded["image_model"], vae=loaded["vae"], image=image[:1])[0],
        nodes["VD_Similarity"](positive_1=seen[0], positive_2=said[0], image=image)[0],
        nodes["VD_Similarity"](positive_1=said[0], positive_2=said[0])[0],
        nodes["VD_FocusSpectrum"](clip_vision=loaded["clip_vision"], image=image, focus=0.2)[0],
    ]
    assert [len(picture) for picture in pictures] == [1, 1, 1, 1, 2]
    assert all(
        picture.shape[3] == 3 and picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.02
        for picture in pictures
    )
    with pytest.raises(ValueError, match="from 0 .data. to 999"):
        nodes["VD_ForwardProcess"](
            model=loaded["image_model"], vae=loaded["vae"], image=image[:1], timesteps="1000"
        )
