"""DDIM inversion: up the official steps to the noise from which the sampler comes back."""

from math import log2, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from node_calls import EMPTY, draw, text
from PIL import Image

from vd_core.config import ScheduleConfig
from vd_core.sampling.generate import find_noise, generate, invert
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import ddim_inverse, run_sampler
from vd_core.sampling.schedule import Schedule

STRAWBERRY = Path(__file__).parents[3] / "workflows" / "input" / "strawberry.png"
SCHEDULE = Schedule(ScheduleConfig())
MEAN, STD = 0.7, 0.5
DATA = torch.linspace(-1, 2, 9, dtype=torch.float64)[:, None]


def gaussian(x, t):
    """Return the exact noise prediction for data from N(MEAN, STD^2)."""
    alpha = SCHEDULE.alphas_cumprod[t].double().item()
    return sqrt(1 - alpha) * (x - sqrt(alpha) * MEAN) / (alpha * STD**2 + 1 - alpha)


def there_and_back(n, sampler="ddim"):
    start = invert(gaussian, SCHEDULE, DATA, Sampling(steps=n))
    return generate(gaussian, SCHEDULE, DATA, batch_noise(0), Sampling(sampler, n), start=start)


def test_upward_is_downward_reversed():
    steps = SCHEDULE.steps(10)
    down, up = list(steps), list(steps.upward())
    assert [(alpha, above) for _, above, alpha in reversed(down)] == [
        (alpha, above) for _, alpha, above in up
    ]
    assert [t for t, _, _ in up] == [0, 1, 101, 201, 301, 401, 501, 601, 701, 801]
    for t, alpha, _ in up:
        # the prediction is asked for at the noise level that x has
        assert SCHEDULE.alphas_cumprod[t].item() == alpha


def test_one_step_by_hand():
    steps = SCHEDULE.steps(1)
    ((t, alpha, above),) = steps.upward()
    eps = gaussian(DATA, t)
    x0 = (DATA - sqrt(1 - alpha) * eps) / sqrt(alpha)
    torch.testing.assert_close(ddim_inverse(gaussian, DATA, steps), sqrt(above) * x0 + sqrt(1 - above) * eps)


def test_a_step_up_undoes_the_step_down_where_the_prediction_stays():
    x = batch_noise(1).draw((5, 3)).double()
    steps, eps = SCHEDULE.steps(20), batch_noise(2).draw((5, 3)).double()
    down = run_sampler(lambda x, t: eps, x, steps, lambda: eps, Sampling())
    torch.testing.assert_close(ddim_inverse(lambda x, t: eps, down, steps), x)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_the_error_of_the_way_there_and_back_halves_with_twice_the_steps(sampler):
    errors = [(there_and_back(n, sampler) - DATA).abs().max().item() for n in (50, 100, 200, 500)]
    slopes = [
        log2(coarse / fine) / log2(ratio)
        for coarse, fine, ratio in zip(errors, errors[1:], (2, 2, 2.5), strict=False)
    ]
    assert slopes == pytest.approx([1, 1, 1], abs=0.15) and errors[-1] < 0.02


def test_the_noise_is_where_the_diffusion_ode_leads():
    """On Gaussian data the number of standard deviations from the mean never changes."""
    steps = SCHEDULE.steps(500)
    first, last = (steps.alphas_cumprod[i].item() for i in (0, -1))
    deviations = (DATA - sqrt(last) * MEAN) / sqrt(last * STD**2 + 1 - last)
    expected = sqrt(first) * MEAN + sqrt(first * STD**2 + 1 - first) * deviations
    torch.testing.assert_close(
        invert(gaussian, SCHEDULE, DATA, Sampling(steps=500)) * sqrt(first), expected, atol=0.02, rtol=0
    )


def test_noise_of_a_start():
    noise = batch_noise(3).draw((4, 2)).double()
    sigma = sqrt(1 / SCHEDULE.steps(50).alphas_cumprod[0] - 1)
    latent = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        find_noise(SCHEDULE, latent + sigma * noise, latent, 50), noise, rtol=1e-5, atol=1e-5
    )


def inverted(nodes, loaded, latent, steps):
    positive, negative = text(nodes, loaded)
    model = loaded["image_model"]
    return nodes["VD_Invert"](
        model=model, positive=positive, negative=negative, latent_image=latent, steps=steps
    )[0]


@pytest.mark.parametrize("data", ["image", "text"])
def test_the_embedded_model_gives_its_picture_and_its_text_back(nodes, data):
    """In 10 and in 40 steps; the error is about a fifth then."""
    encoder = nodes["VD_LoadClip"](model="embedded")[0]
    contexts = nodes["VD_TextContext"](clip=encoder, text="red apple, 3d style", negative_text="")
    if data == "image":
        model, vae = nodes["VD_LoadImageModel"](model="embedded")
        picture = Image.open(STRAWBERRY).convert("RGB")
        latent = {"samples": vae.encode(torch.tensor(np.asarray(picture) / 255, dtype=torch.float32)[None])}
    else:
        model, vae = nodes["VD_LoadTextModel"](model="embedded")
        latent = nodes["VD_TextEncode"](text_vae=vae, text="red apple, flat style\nbanana, 3d style")[0]
    errors = []
    for steps in (10, 40):
        wires = {
            "model": model,
            "positive": contexts[0],
            "negative": contexts[1],
            "latent_image": latent,
            "steps": steps,
            "cfg": 1.0,
        }
        start = nodes["VD_Invert"](**wires)[0]
        back = nodes["VD_Sampler"](**wires, start_noise=start)[0]["samples"]
        assert start["samples"].shape == back.shape == latent["samples"].shape
        errors.append(((back - latent["samples"]).norm() / latent["samples"].norm()).item())
    assert errors[1] < errors[0] / 2.5 and errors[1] < 0.12


def test_eta_0_does_not_depend_on_the_seed_and_eta_1_does(nodes, loaded):
    start, contexts = inverted(nodes, loaded, {"samples": torch.ones(1, 4, 8, 8)}, 4), text(nodes, loaded)

    def drawn(seed, eta, **inputs):
        return draw(nodes, loaded, contexts, seed=seed, eta=eta, steps=4, start_noise=start, **inputs)

    assert torch.equal(drawn(1, 0.0), drawn(2, 0.0)) and not torch.equal(drawn(1, 1.0), drawn(2, 1.0))
    assert torch.equal(drawn(1, 0.0), drawn(1, 0.0, fidelity=0.5))
    two = drawn(1, 1.0)  # one start for all samples of the batch
    assert len(two) == len(EMPTY["samples"]) and not torch.equal(two[0], two[1])


def test_a_start_that_does_not_fit_is_refused(nodes, loaded):
    start, contexts = inverted(nodes, loaded, {"samples": torch.ones(1, 4, 8, 8)}, 4), text(nodes, loaded)
    with pytest.raises(ValueError, match="made by Invert Latent .VD. in 4 steps, the sampler has 5"):
        draw(nodes, loaded, contexts, steps=5, start_noise=start)
    with pytest.raises(
        ValueError, match=r"start_noise \[1, 4, 8, 8\] does not fit latent_image \[1, 4, 8, 10\]"
    ):
        draw(nodes, loaded, contexts, {"samples": torch.zeros(1, 4, 8, 10)}, steps=4, start_noise=start)


def test_inversion_goes_the_way_that_a_shifted_and_tied_model_samples(nodes):
    """There and back through the same options; the tie to the picture itself makes the way more exact."""
    model, vae = nodes["VD_LoadImageModel"](model="embedded")
    contexts = nodes["VD_TextContext"](
        clip=nodes["VD_LoadClip"](model="embedded")[0], text="strawberry, 3d style", negative_text=""
    )
    picture = torch.tensor(np.asarray(Image.open(STRAWBERRY).convert("RGB")) / 255, dtype=torch.float32)[None]
    latent = {"samples": vae.encode(picture)}
    shifted = nodes["VD_ResolutionShift"](model=model, latent_image=latent, trained_side=4)[0]
    tied = nodes["VD_LowPassTie"](model=shifted, latent_image=latent)[0]
    errors = []
    for there, back in ((shifted, shifted), (tied, tied), (model, shifted)):
        wires = {
            "positive": contexts[0],
            "negative": contexts[1],
            "latent_image": latent,
            "steps": 20,
            "cfg": 1.0,
        }
        start = nodes["VD_Invert"](model=there, **wires)[0]
        again = nodes["VD_Sampler"](model=back, **wires, start_noise=start)[0]["samples"]
        errors.append(((again - latent["samples"]).norm() / latent["samples"].norm()).item())
    assert errors[1] < errors[0] < 0.25 < errors[2], errors  # 0.151, 0.186, 0.337
