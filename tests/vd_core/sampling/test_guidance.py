"""Guidance: which evaluations run, in which order, and what is made of them."""

import itertools
from dataclasses import replace

import pytest
import torch
from plain_diffuser import plainly
from random_tensors import randn

from vd_core.config import ScheduleConfig
from vd_core.context import Context
from vd_core.sampling.guidance import guide, plan_evaluations
from vd_core.sampling.schedule import Schedule

EPS = Schedule(ScheduleConfig())
V = Schedule(ScheduleConfig(prediction="v"))


TEXT = Context("text", randn(1, 3, 40, seed=1), randn(1, 3, 40, seed=2), weight=1)
IMAGE = Context("image", randn(2, 5, 40, seed=3), weight=3)
SOUND = Context("sound", randn(1, 2, 40, seed=4), weight=0)
X = randn(2, 4, 6, 8, seed=5)


class Recorder:
    """Stands in for the diffuser, or wraps it, and keeps what it was asked."""

    def __init__(self, diffuser=None):
        self.diffuser = diffuser
        self.calls = []

    def __call__(self, x, t, contexts, data):
        self.calls.append((x, t, contexts, data))
        return x * 0 if self.diffuser is None else self.diffuser(x, t, contexts, data)

    @property
    def evaluations(self):
        return [len(x) // len(X) for x, *_ in self.calls]


@pytest.fixture
def predict(model):
    """(text tokens, image tokens) -> the diffuser's own prediction for X at timestep 501, shares 1/4 and
    3/4."""

    def call(text, image):
        contexts = [
            Context("text", text.expand(2, -1, -1), weight=0.25),
            Context("image", image, weight=0.75),
        ]
        return model.diffuser(X, torch.tensor([501, 501]), contexts, "image")

    return call


@pytest.mark.parametrize(
    ("scales", "kept", "differences"),
    [
        ([7.5], [0, 1], [7.5]),
        ([1], [1], []),
        ([0], [0], []),
        ([-2], [0, 1], [-2]),
        ([7.5, 7.5], [0, 2], [7.5]),
        ([1, 1, 1], [3], []),
        ([0, 0], [0], []),
        ([2, 3], [0, 1, 2], [2, 3]),
        ([1, 3], [1, 2], [3]),
        ([3, 1], [0, 1, 2], [3, 1]),
        ([1, 0], [1], []),
        ([3, 0], [0, 1], [3]),
        ([0, 3], [0, 1, 2], [0, 3]),
        ([1, 1, 5, 5, 0], [2, 4], [5]),
        ([2, 2, 3, 0, 0], [0, 2, 3], [2, 3]),
    ],
)
def test_guidance_chain(scales, kept, differences):
    assert plan_evaluations(scales) == (kept, differences)


def test_the_chain_is_the_full_sum_whatever_it_leaves_out():
    predictions = randn(4, seed=6).double().tolist()
    for scales in itertools.product((0, 1, -1, 3), repeat=3):
        full = predictions[0] + sum(
            s * (b - a) for s, a, b in zip(scales, predictions, predictions[1:], strict=False)
        )
        kept, differences = plan_evaluations(scales)
        assert kept == sorted(set(kept)) and len(differences) == len(kept) - 1
        values = [predictions[k] for k in kept]
        short = values[0] + sum(s * (b - a) for s, a, b in zip(differences, values, values[1:], strict=False))
        assert short == pytest.approx(full)


@pytest.mark.parametrize(
    ("cfg", "evaluations"),
    [
        (1, 1),
        (1.0, 1),
        ([1, 1], 1),
        (0, 1),
        (7.5, 2),
        ([7.5, 7.5], 2),
        ([1, 5], 2),
        ([5, 0], 2),
        ([5, 1], 3),
        ([2, 3], 3),
    ],
)
def test_evaluations_per_step(cfg, evaluations):
    recorder = Recorder()
    denoise = guide(plainly(recorder), EPS, [TEXT, IMAGE], "image", cfg)
    for t in (981, 501, 1):
        assert denoise(X, t).shape == X.shape
    assert recorder.evaluations == [evaluations] * 3


def test_what_the_diffuser_is_asked():
    recorder = Recorder()
    guide(plainly(recorder), EPS, [TEXT, IMAGE], "image", [2, 3])(X, 501)
    ((x, t, contexts, data),) = recorder.calls
    assert torch.equal(x, torch.cat([X, X, X])) and t.tolist() == [501] * 6 and data == "image"
    text, image = (context.tokens for context in contexts)
    assert [(context.kind, context.weight) for context in contexts] == [("text", 0.25), ("image", 0.75)]
    conditional, unconditional = TEXT.tokens.expand(2, -1, -1), TEXT.null.expand(2, -1, -1)
    assert torch.equal(text, torch.cat([unconditional, conditional, conditional]))
    assert torch.equal(
        image, torch.cat([torch.zeros_like(IMAGE.tokens), torch.zeros_like(IMAGE.tokens), IMAGE.tokens])
    )


def test_scale_1_is_the_prediction(model, predict):
    denoise = guide(model.diffuser, EPS, [TEXT, IMAGE], "image", 1)
    torch.testing.assert_close(denoise(X, 501), predict(TEXT.tokens, IMAGE.tokens))


def test_one_scale_is_the_usual_formula(model, predict):
    unconditional, conditional = (
        predict(TEXT.null, torch.zeros_like(IMAGE.tokens)),
        predict(TEXT.tokens, IMAGE.tokens),
    )
    expected = unconditional + 7.5 * (conditional - unconditional)
    for cfg in (7.5, [7.5, 7.5]):
        out = guide(model.diffuser, EPS, [TEXT, IMAGE], "image", cfg)(X, 501)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)
    assert (conditional - unconditional).std() > 1e-3


def test_scales_per_context_apply_in_the_order_of_the_contexts(model, predict):
    neither, text, both = (
        predict(TEXT.null, 0 * IMAGE.tokens),
        predict(TEXT.tokens, 0 * IMAGE.tokens),
        predict(TEXT.tokens, IMAGE.tokens),
    )
    image = predict(TEXT.null, IMAGE.tokens)
    out = guide(model.diffuser, EPS, [TEXT, IMAGE], "image", [2, 5])(X, 501)
    torch.testing.assert_close(out, neither + 2 * (text - neither) + 5 * (both - text), rtol=0, atol=1e-4)
    out = guide(model.diffuser, EPS, [IMAGE, TEXT], "image", [5, 2])(X, 501)
    torch.testing.assert_close(out, neither + 5 * (image - neither) + 2 * (both - image), rtol=0, atol=1e-4)


def test_scale_1_ignores_the_unconditional_tokens(model):
    other = Context("text", TEXT.tokens, 5 * TEXT.null)
    outs = [
        guide(model.diffuser, EPS, [context], "image", 1)(X, 501)
        for context in (Context("text", TEXT.tokens, TEXT.null), other)
    ]
    assert torch.equal(*outs)
    outs = [
        guide(model.diffuser, EPS, [context], "image", 2)(X, 501)
        for context in (Context("text", TEXT.tokens, TEXT.null), other)
    ]
    assert not torch.equal(*outs)


@pytest.mark.parametrize("t", [1, 501, 999])
def test_a_perfect_v_prediction_is_turned_into_the_noise(t):
    x0, noise = randn(2, 4, 6, 8, seed=7), randn(2, 4, 6, 8, seed=8)
    signal, sigma = EPS.alphas_cumprod[t].sqrt(), (1 - EPS.alphas_cumprod[t]).sqrt()
    v = signal * noise - sigma * x0
    x = signal * x0 + sigma * noise

    def perfect(x, t, contexts, data):
        return v

    eps = guide(plainly(perfect), V, [TEXT], "image", 1)(x, t)
    torch.testing.assert_close(eps, noise, rtol=0, atol=1e-5)


def test_guided_v_predictions_are_the_guided_noise():
    """The change from v to eps is affine, and guidance an affine combination: their order does not matter."""

    def affine(x, t, contexts, data):
        return contexts[0].tokens.mean() + contexts[0].tokens.mean(dim=(1, 2))[:, None, None, None] * x

    calls = Recorder(affine)
    out = guide(plainly(calls), V, [TEXT], "image", 4)(X, 501)
    x, t, contexts, *_ = calls.calls[0]
    unconditional, conditional = calls.diffuser(*calls.calls[0]).chunk(2)
    e_u, e_c = (V.to_eps(X, v, 501) for v in (unconditional, conditional))
    torch.testing.assert_close(out, e_u + 4 * (e_c - e_u), rtol=0, atol=1e-5)


def test_tokens_follow_the_dtype_of_the_latent():
    recorder = Recorder()
    assert guide(plainly(recorder), V, [TEXT], "image", 2)(X.half(), 501).dtype == torch.float16
    assert recorder.calls[0][2][0].tokens.dtype == torch.float16


@pytest.mark.parametrize(
    ("contexts", "cfg", "sentence"),
    [
        ([TEXT, IMAGE], [7.5], "2 contexts but 1 guidance scales"),
        ([TEXT], [7.5, 7.5], "1 contexts but 2 guidance scales"),
        ([SOUND], 7.5, "weight above 0"),
        ([], 7.5, "at least one context"),
    ],
)
def test_refusals(contexts, cfg, sentence):
    with pytest.raises(ValueError, match=sentence):
        guide(plainly(Recorder()), EPS, contexts, "image", cfg)


def test_contexts_of_another_batch_size_are_refused():
    three = Context("text", randn(3, 4, 40))
    with pytest.raises(ValueError, match="text context has 3 samples, the latent has 2"):
        guide(plainly(Recorder()), EPS, [TEXT, three], "image")(X, 501)
    one_sample = Context("text", randn(1, 4, 40), randn(3, 4, 40))
    with pytest.raises(ValueError, match="text context has 3 samples, the latent has 2"):
        guide(plainly(Recorder()), EPS, [one_sample], "image")(X, 501)


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (0.5, 2), (1, 0), (0, 3)])
def test_the_guidance_of_a_context_multiplies_the_scale(model, factors):
    own = [replace(context, guidance=factor) for context, factor in zip((TEXT, IMAGE), factors, strict=True)]
    listed = guide(model.diffuser, EPS, [TEXT, IMAGE], "image", [3 * factor for factor in factors])(X, 501)
    assert torch.equal(guide(model.diffuser, EPS, own, "image", 3)(X, 501), listed)
