"""Whole flows on a tiny model with random weights: every pair of kinds, where a sample starts, and what it
depends on."""

import copy
from dataclasses import replace
from math import sqrt

import pytest
import torch
from random_tensors import randn64 as randn

from vd_core.config import latent_shape, token_shape
from vd_core.context import Context, blend
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.noise import batch_noise, sample_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import SAMPLERS
from vd_core.sampling.schedule import Schedule

SHAPES = {"image": (4, 6, 8), "text": (24,)}
DATA = pytest.mark.parametrize("data", SHAPES)
PROMPTS = ["red apple, noto style", "two dogs don't run"]


def latent(data, batch=2):
    return randn(batch, *SHAPES[data], seed=1)


def pictures(batch=2):
    return torch.rand(batch, 3, 60, 70, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def exact(model):
    """Return the model with its diffuser in double precision, for identities: the tiny text flow amplifies
    rounding."""
    return model.replace(diffuser=copy.deepcopy(model.diffuser).double())


@pytest.fixture(scope="module")
def contexts(model):
    text, image = [model.encode_text(PROMPTS)], [model.encode_image(pictures())]
    dual = blend(image, text, 0.3)
    return {"text": text, "image": image, "dual": dual, "triple": blend(dual, image, 0.5)}


@pytest.fixture(scope="module")
def sample(exact, contexts):
    """Two samples, in four steps unless told otherwise."""

    def call(data, kind="dual", noise=None, batch=2, callback=None, **options):
        sampling = Sampling(**{"steps": 4, **options})
        return exact.sample(
            data, contexts[kind], latent(data, batch), noise or sample_noise(7), sampling, callback=callback
        )

    return call


class Oracle(torch.nn.Linear):
    """A diffuser that knows the answer: it predicts the noise that is left when x0 (scaled) is taken from
    x."""

    def __init__(self, config, x0):
        super().__init__(1, 1, dtype=x0.dtype)
        self.alphas, self.x0, self.evaluations = Schedule(config.schedule).alphas_cumprod.double(), x0, 0

    def forward(self, x, t, contexts, data, evaluations, shares, caches):
        self.evaluations += evaluations
        alpha = self.alphas[t[0]]
        return ((x - alpha.sqrt() * self.x0) / (1 - alpha).sqrt()).repeat(evaluations, *[1] * (x.ndim - 1))


@DATA
@pytest.mark.parametrize("kind", ["text", "image", "dual", "triple"])
def test_every_flow(sample, data, kind):
    out = sample(data, kind)
    assert out.shape == latent(data).shape and out.isfinite().all()
    assert torch.equal(sample(data, kind), out)
    others = {"text", "image", "dual", "triple"} - {kind}
    assert all((sample(data, other) - out).abs().max() > 1e-3 for other in others)


@DATA
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_what_the_network_knows(config, contexts, data, sampler):
    """A perfect network leads any sampler to its answer, in the autoencoder's scale, but for the noise of
    timestep 0."""
    scale = config.diffuser.data[data].latent_scale
    answer = latent(data) / scale
    model = VersatileDiffusion(config, Oracle(config, answer * scale))
    out = model.sample(
        data, contexts["dual"], torch.zeros_like(answer), batch_noise(3), Sampling(sampler, steps=10)
    )
    assert ((out - answer) * scale).std() < 0.05


@DATA
def test_decoded_samples(model, contexts, data):
    """In the model's own precision, to the end."""
    out = model.sample(data, contexts["dual"], latent(data).float(), sample_noise(7), Sampling(steps=2))
    assert out.dtype == torch.float32
    if data == "image":
        images = model.image_vae.decode(out)
        assert images.shape == (2, 3, 48, 64) and images.min() >= 0 and images.max() <= 1 and images.std() > 0
    else:
        noise = sample_noise(8)
        noise.draw(out.shape)
        texts = model.text_vae.decode(out, noise.generators)
        assert len(texts) == 2 and all(isinstance(text, str) for text in texts)


@DATA
def test_fidelity_1_returns_the_latent(sample, data):
    torch.testing.assert_close(sample(data, fidelity=1), latent(data))  # up to the rounding of the scale
    torch.testing.assert_close(sample(data, fidelity=0.99), latent(data))  # no step is left of four


@DATA
def test_fidelity_noises_the_scaled_latent_and_runs_the_last_steps(config, contexts, data):
    """With a network that predicts no noise, DDIM only rescales x, so the start can be read from the
    result."""
    scale = config.diffuser.data[data].latent_scale

    class Silent(torch.nn.Linear):
        def forward(self, x, t, contexts, data, evaluations, shares, caches):
            timesteps.append(int(t))
            return torch.zeros_like(x)

    timesteps, clean = [], latent(data) / scale
    silent = Silent(1, 1).double()
    sampling = Sampling(steps=10, fidelity=0.5, cfg=1)
    out = VersatileDiffusion(config, silent).sample(data, contexts["text"], clean, batch_noise(5), sampling)
    assert timesteps == [401, 301, 201, 101, 1]
    alphas, noise = Schedule(config.schedule).alphas_cumprod.double(), batch_noise(5).draw(clean.shape)
    # one level higher than the first step, as the official code
    start = sqrt(alphas[501]) * latent(data) + sqrt(1 - alphas[501]) * noise
    torch.testing.assert_close(out * scale, start * sqrt(alphas[0] / alphas[401]), rtol=0, atol=1e-5)


@DATA
def test_more_fidelity_is_nearer_to_the_latent(sample, data):
    errors = [
        (sample(data, fidelity=fidelity, steps=20, cfg=1) - latent(data)).std()
        for fidelity in (0, 0.5, 0.8, 0.95)
    ]
    assert errors == sorted(errors, reverse=True)


@DATA
@pytest.mark.parametrize("eta", [0, 1])
def test_a_noisy_start_is_the_start_from_that_noise(sample, exact, contexts, data, eta):
    noise = batch_noise(9)
    start = noise.draw((2, *SHAPES[data])).double()
    scale, steps = exact.config.diffuser.data[data].latent_scale, Schedule(exact.config.schedule).steps(4)
    leftover = start / sqrt(steps.alphas_cumprod[0]) / scale
    out = exact.sample(data, contexts["dual"], start, noise, Sampling(steps=4, eta=eta), start=leftover)
    torch.testing.assert_close(out, sample(data, noise=batch_noise(9), eta=eta), rtol=1e-9, atol=1e-9)


@DATA
def test_what_is_random(sample, data):
    out = sample(data)
    assert torch.equal(sample(data, noise=sample_noise(7)), out)
    assert not torch.equal(sample(data, noise=sample_noise(8)), out)
    noisy = sample(data, eta=1)
    assert torch.equal(sample(data, eta=1), noisy) and not torch.equal(noisy, out)
    assert torch.equal(
        sample(data, eta=1, temperature=0), sample(data, eta=1, temperature=0, noise=sample_noise(7))
    )
    assert not torch.equal(sample(data, eta=1, temperature=0), noisy)


@DATA
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m"])
def test_no_sample_depends_on_the_size_of_its_batch(exact, contexts, data, sampler):
    sampling = Sampling(sampler, steps=3, eta=1)
    blend = [replace(c, tokens=c.tokens[:1]) for c in contexts["dual"]]
    whole = exact.sample(data, blend, latent(data, 3), sample_noise(4), sampling)
    for n in range(3):
        alone = exact.sample(data, blend, latent(data, 3)[n : n + 1], sample_noise(4, rows=[n]), sampling)
        torch.testing.assert_close(alone, whole[n : n + 1], rtol=0, atol=1e-8)
    assert (whole[0] - whole[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("cfg", "evaluations"), [(1, 1), (7.5, 2), ([2, 2], 2), ([2, 3], 3), ([1, 3], 2)])
def test_guidance_costs_what_it_must(config, contexts, cfg, evaluations):
    oracle = Oracle(config, latent("text"))
    sampling = Sampling(steps=5, cfg=cfg)
    VersatileDiffusion(config, oracle).sample(
        "text", contexts["dual"], latent("text"), sample_noise(1), sampling
    )
    assert oracle.evaluations == 5 * evaluations


def test_callback_sees_every_step_and_may_stop(sample):
    seen = []
    out = sample("image", callback=lambda i, total, x, x0: seen.append((i, total, x)))
    assert [(i, total) for i, total, _ in seen] == [(i, 4) for i in range(4)]
    torch.testing.assert_close(seen[-1][2] / 0.18215, out)

    def stop(i, total, x, x0):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample("image", callback=stop)


def test_text_contexts(model):
    context = model.encode_text(PROMPTS)
    assert (
        context.kind == "text" and context.tokens.shape == (2, 77, 40) and context.null.shape == (1, 77, 40)
    )
    assert torch.equal(context.null, model.encode_text([""]).tokens)
    negative = model.encode_text(PROMPTS, negative=PROMPTS[1])
    torch.testing.assert_close(negative.null, context.tokens[1:], rtol=0, atol=1e-5)
    assert torch.equal(negative.tokens, context.tokens)


def test_image_contexts(model):
    context = model.encode_image(pictures())
    assert context.kind == "image" and context.tokens.shape == (2, 17, 40) and context.null is None
    black, grey = (model.encode_image(pictures(), null=null).null for null in ("black", "grey"))
    torch.testing.assert_close(black, model.encode_image(torch.zeros(1, 3, 56, 56)).tokens)
    torch.testing.assert_close(grey, model.encode_image(torch.full((1, 3, 56, 56), 0.5)).tokens)
    assert not torch.equal(black, grey)
    assert torch.equal(model.encode_image(pictures(), null="zeros").unconditional, torch.zeros(2, 17, 40))


def test_focus_changes_the_patches_and_not_the_global_token(model):
    plain = model.encode_image(pictures()).tokens
    for focus in (0, 1):
        tokens = model.encode_image(pictures(), focus=focus, null="black").tokens
        assert torch.equal(tokens[:, 0], plain[:, 0]) and (tokens[:, 1:] - plain[:, 1:]).abs().max() > 1e-3
    black = model.encode_image(pictures(), null="black").null
    assert torch.equal(model.encode_image(pictures(), focus=0, null="black").null, black)


def test_a_picture_masked_away_is_an_empty_context_at_any_focus(model):
    for focus in (0, 0.5, 1):
        assert not model.encode_image(pictures(), torch.zeros(2, 1, 8, 8), focus).tokens.any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampling": Sampling(steps=1001)}, "number of steps lies between 1 and 1000, got 1001"),
        ({"sampling": Sampling(cfg=[7.5])}, "2 contexts but 1 guidance scales"),
        ({"data": "sound"}, "generates image, text, not 'sound'"),
        ({"latent": torch.zeros(2, 4, 7, 8)}, "divisible by 16 pixels, got 64x56"),
        (
            {"latent": torch.zeros(2, 24)},
            r"image flow needs a latent \[batch, 4, height, width\], got \[., 24\]",
        ),
        ({"latent": torch.zeros(3, 4, 6, 8)}, "context has 2 samples, the latent has 3"),
        ({"contexts": []}, "at least one context"),
        ({"contexts": torch.zeros(1, 17, 40)}, "contexts must be a Context or a list of them, got Tensor"),
        (
            {"contexts": [Context("image", torch.full((1, 17, 40), 3.0))]},
            "image context have a mean norm of 19, .* divide each sample by the norm of its first token",
        ),
        ({"contexts": [Context("text", torch.full((1, 2, 40), torch.nan))]}, "hold NaN or inf"),
        (
            {"contexts": [Context("sound", torch.zeros(1, 2, 40))]},
            'no context layers for "sound"; it has: image, text',
        ),
        (
            {"contexts": [Context("text", torch.zeros(1, 2, 41))]},
            "text context layers read tokens of width 40, got 41",
        ),
    ],
)
def test_refusals(model, contexts, options, sentence):
    arguments = {
        "data": "image",
        "contexts": contexts["dual"],
        "latent": torch.zeros(2, 4, 6, 8),
        "noise": sample_noise(1),
    }
    with pytest.raises(ValueError, match=sentence):
        model.sample(**{"sampling": Sampling(steps=2), **arguments, **options})


def test_a_fidelity_that_leaves_no_step_is_warned_of(model, contexts, caplog):
    latent = torch.ones(2, 4, 6, 8)
    kept = model.sample("image", contexts["dual"], latent, 0, Sampling(steps=2, fidelity=0.9))
    assert torch.equal(kept, latent) and "A fidelity of 0.9 leaves none of 2 steps" in caplog.text


def test_it_says_which_shapes_it_reads_and_makes(model):
    shapes = "image tokens [17, 40], text tokens [77, 40], image latents [4, 8, 8], text latents [24]"
    assert repr(model).endswith(f"of one sample: {shapes}")
    assert model.encode_text("x").tokens.shape[1:] == token_shape(model.config, "text")
    assert model.encode_image(torch.zeros(1, 3, 8, 8)).tokens.shape[1:] == token_shape(model.config, "image")
    assert model.image_vae.encode(torch.zeros(1, 3, 64, 64)).shape[1:] == latent_shape(model.config, "image")


def test_large_tokens_of_texts_are_warned_of(model, caplog):
    """CLIP's were never divided, or another encoder made them: SeeCoder's, read as texts, may be as large."""
    tokens = torch.full((1, 2, 40), 3.0)
    model.sample("image", Context("text", tokens), torch.zeros(1, 4, 8, 8), 0, Sampling(steps=1))
    assert "text context have a mean norm of 19, where CLIP's have about 1" in caplog.text


def test_unknown_unconditional_pictures_are_refused(model):
    with pytest.raises(ValueError, match="one of zeros, black, grey, got 'white'"):
        model.encode_image(pictures(), null="white")


@pytest.mark.parametrize("name", ["diffuser", "clip", "image_vae", "text_vae"])
def test_a_part_that_was_not_loaded_is_named_when_it_is_read(model, name):
    partly = model.replace(**{name: None})
    with pytest.raises(
        ValueError, match=f"^This model was loaded without its .*: load the part {name} too.$"
    ):
        getattr(partly, name)
    assert partly.parts.keys() == model.parts.keys() - {name} and partly.config is model.config
