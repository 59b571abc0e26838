"""The diffuser by its identities: what mixing, batching, partial building and refusing must not change."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_tensors import randn64 as randn
from torch import nn

from vd_core.context import Context
from vd_core.diffuser.layers import timestep_embedding
from vd_core.diffuser.mixing import layer_mixing
from vd_core.diffuser.model import Diffuser

SHAPES = {"image": (4, 6, 8), "text": (24,)}
DATA = pytest.mark.parametrize("data", SHAPES)


def assert_equal_up_to_rounding(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def latent(data, batch=1):
    return randn(batch, *SHAPES[data], seed=1)


def tokens(number, batch=1):
    return randn(batch, 3 + number, 40, seed=10 + number)


@pytest.fixture(scope="module")
def diffuser(model):
    """In double precision: the group norms of the tiny text flow run over two values and amplify rounding."""
    return copy.deepcopy(model.diffuser).double()


def run(diffuser, data, contexts, batch=1, **options):
    return diffuser(latent(data, batch), torch.full((batch,), 501), contexts, data, **options)


@DATA
def test_the_prediction_has_the_shape_of_the_latent_and_hears_everything(diffuser, data):
    x, t, context = latent(data, 2), torch.tensor([501, 501]), tokens(0, 2)
    out = diffuser(x, t, [Context("text", context)], data)
    assert out.shape == x.shape
    others = [
        diffuser(-x, t, [Context("text", context)], data),
        diffuser(x, t + 1, [Context("text", context)], data),
        diffuser(x, t, [Context("text", -context)], data),
        diffuser(x, t, [Context("image", context)], data),
    ]
    assert all((other - out).abs().max() > 1e-4 for other in others)


@DATA
@pytest.mark.parametrize("kind", ["image", "text"])
def test_ratio_1_and_0_is_the_context_alone(diffuser, data, kind):
    alone = run(diffuser, data, [Context(kind, tokens(0))])
    for other in ("image", "text"):
        assert torch.equal(
            run(diffuser, data, [Context(kind, tokens(0)), Context(other, tokens(1), weight=0.0)]), alone
        )
        assert torch.equal(
            run(diffuser, data, [Context(other, tokens(1), weight=0.0), Context(kind, tokens(0))]), alone
        )


@DATA
def test_equal_contexts_blended_are_one(diffuser, data):
    alone = run(diffuser, data, [Context("text", tokens(0))])
    blended = run(diffuser, data, [Context("text", tokens(0), weight=ratio) for ratio in (0.2, 0.3, 0.5)])
    assert_equal_up_to_rounding(blended, alone)


@DATA
def test_any_number_of_contexts(diffuser, data):
    kinds = zip(("text", "image", "image", "text"), (0.2, 0.3, 0.4, 0.1), strict=True)
    contexts = [Context(kind, tokens(n), weight=weight) for n, (kind, weight) in enumerate(kinds)]
    out = run(diffuser, data, contexts)
    assert_equal_up_to_rounding(run(diffuser, data, contexts[::-1]), out)
    for left in range(4):
        rest = [context for n, context in enumerate(contexts) if n != left]
        assert (run(diffuser, data, rest) - out).abs().max() > 1e-4


@DATA
def test_a_batch_is_its_samples(diffuser, data):
    x, t, text, image = latent(data, 3), torch.tensor([981, 501, 1]), tokens(0, 3), tokens(1, 3)
    whole = diffuser(x, t, [Context("text", text, weight=0.4), Context("image", image, weight=0.6)], data)
    for n in range(3):
        part = slice(n, n + 1)
        alone = diffuser(
            x[part],
            t[part],
            [Context("text", text[part], weight=0.4), Context("image", image[part], weight=0.6)],
            data,
        )
        assert_equal_up_to_rounding(whole[part], alone)


def test_context_layers_do_not_read_the_order_of_tokens(diffuser):
    context = tokens(2)
    out = run(diffuser, "image", [Context("text", context)])
    assert_equal_up_to_rounding(run(diffuser, "image", [Context("text", context.flip(1))]), out)


@DATA
def test_trace_sees_every_layer_in_order(diffuser, data):
    seen = []
    out = run(diffuser, data, [Context("text", tokens(0))], trace=lambda step, h: seen.append((step, h)))
    assert [step for step, _ in seen] == [step for step in diffuser.plan if step.op in ("data", "context")]
    assert torch.equal(seen[-1][1], out)
    assert all(h.shape[1] == step.outputs for step, h in seen[:-1])


def test_layer_mixing_uses_one_context_per_layer(diffuser):
    contexts = [Context("text", tokens(0), weight=0.5), Context("image", tokens(1), weight=0.5)]
    draws = np.random.RandomState(5)
    picks = [draws.choice(2, p=[0.5, 0.5]) for step in diffuser.plan if step.op == "context"]
    assert set(picks) == {0, 1}

    def expected(layers, shares):
        return [(layers[picks.pop(0)], None)]

    assert torch.equal(
        run(diffuser, "image", contexts, mixing=layer_mixing(5)),
        run(diffuser, "image", contexts, mixing=expected),
    )
    assert not picks


@DATA
def test_layer_mixing_depends_on_its_seed_alone(diffuser, data):
    contexts = [Context("text", tokens(0), weight=0.5), Context("image", tokens(1), weight=0.5)]
    np.random.seed(0)
    outs = [run(diffuser, data, contexts, mixing=layer_mixing(5)) for _ in range(2)]
    assert torch.equal(*outs) and np.random.randint(2**30) == np.random.RandomState(0).randint(2**30)
    assert any(
        not torch.equal(run(diffuser, data, contexts, mixing=layer_mixing(seed)), outs[0])
        for seed in range(6, 10)
    )


def test_layer_mixing_goes_on_from_call_to_call(diffuser):
    contexts, mixing = (
        [Context("text", tokens(0), weight=0.5), Context("image", tokens(1), weight=0.5)],
        layer_mixing(5),
    )
    outs = [run(diffuser, "image", contexts, mixing=mixing) for _ in range(6)]
    assert any(not torch.equal(out, outs[0]) for out in outs)


@DATA
def test_layer_mixing_identities(diffuser, data):
    alone = run(diffuser, data, [Context("text", tokens(0))])
    assert torch.equal(
        run(
            diffuser,
            data,
            [Context("image", tokens(1), weight=0.0), Context("text", tokens(0))],
            mixing=layer_mixing(1),
        ),
        alone,
    )
    assert torch.equal(
        run(
            diffuser,
            data,
            [Context("text", tokens(0), weight=0.3), Context("text", tokens(0), weight=0.7)],
            mixing=layer_mixing(1),
        ),
        alone,
    )


@pytest.mark.parametrize("seed", [2**32, 2**64 - 1])
def test_layer_mixing_takes_comfyui_seeds(diffuser, seed):
    """A seed counts modulo 2**32, which is what numpy takes."""
    contexts = [Context("text", tokens(0), weight=0.5), Context("image", tokens(1), weight=0.5)]
    found, same, other = (
        run(diffuser, "text", contexts, mixing=layer_mixing(s)) for s in (seed, seed % 2**32, seed + 1)
    )
    assert torch.equal(found, same) and not torch.equal(found, other)


@DATA
def test_partial_builds_are_parts_of_the_whole(diffuser, config, data):
    part = Diffuser(config.diffuser, data=[data], contexts=["image"]).double()
    whole = diffuser.state_dict()
    assert whole.keys() > part.state_dict().keys()
    assert {key.split(".")[1] for key in part.state_dict() if key.startswith("data.")} == {data}
    part.load_state_dict({key: whole[key] for key in part.state_dict()})
    assert torch.equal(
        run(part, data, [Context("image", tokens(0))]), run(diffuser, data, [Context("image", tokens(0))])
    )
    with pytest.raises(ValueError, match='no context layers for "text"; it has: image'):
        run(part, data, [Context("text", tokens(0))])
    (other,) = SHAPES.keys() - {data}
    with pytest.raises(ValueError, match=f'no data layers for "{other}"; it has: {data}'):
        run(part, other, [Context("image", tokens(0))])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(diffuser, dtype):
    lower = copy.deepcopy(diffuser).to(dtype)
    contexts = [Context("text", tokens(0), weight=0.5), Context("image", tokens(1), weight=0.5)]
    out = lower(
        latent("image").to(dtype),
        torch.tensor([501]),
        [context.to(dtype=dtype) for context in contexts],
        "image",
    )
    expected = run(diffuser, "image", contexts)
    assert out.dtype == dtype and (out - expected).std() < 20 * torch.finfo(dtype).eps * expected.std()


def test_built_on_meta_and_filled(diffuser, config):
    with torch.device("meta"):
        empty = Diffuser(config.diffuser)
    empty.load_state_dict(diffuser.state_dict(), assign=True)
    for data in SHAPES:
        assert torch.equal(
            run(empty, data, [Context("text", tokens(0))]), run(diffuser, data, [Context("text", tokens(0))])
        )
    assert not empty.training


def test_every_weight_comes_from_the_ops_namespace(config):
    names = "Linear", "Conv2d", "GroupNorm", "LayerNorm"
    ops = SimpleNamespace(**{name: type(name, (getattr(nn, name),), {}) for name in names})
    diffuser = Diffuser(config.diffuser, ops=ops)
    ours = tuple(vars(ops).values())
    foreign = [
        name
        for name, module in diffuser.named_modules()
        if [*module.parameters(recurse=False)] and not isinstance(module, ours)
    ]
    assert not foreign
    assert {type(module) for module in diffuser.modules()} >= set(ours)


def test_timestep_embedding():
    embedding = timestep_embedding(torch.tensor([0, 981]), 320)
    assert embedding.shape == (2, 320) and embedding.dtype == torch.float32
    assert torch.equal(embedding[0], torch.cat([torch.ones(160), torch.zeros(160)]))
    for i in (0, 7, 159):
        angle = 981 * math.exp(-math.log(10000) * i / 160)
        assert embedding[1, i].item() == pytest.approx(math.cos(angle), abs=1e-4)
        assert embedding[1, 160 + i].item() == pytest.approx(math.sin(angle), abs=1e-4)


@pytest.mark.parametrize(
    ("data", "shape", "contexts", "sentence"),
    [
        ("sound", (1, 4, 6, 8), [("text", 40)], 'no data layers for "sound"; it has: image, text'),
        ("image", (1, 4, 6, 8), [("sound", 40)], 'no context layers for "sound"; it has: image, text'),
        (
            "image",
            (1, 5, 6, 8),
            [("text", 40)],
            r"image flow needs a latent \[batch, 4, height, width\], got \[1, 5, 6, 8\]",
        ),
        (
            "image",
            (1, 24),
            [("text", 40)],
            r"image flow needs a latent \[batch, 4, height, width\], got \[1, 24\]",
        ),
        ("text", (1, 23), [("text", 40)], r"text flow needs a latent \[batch, 24\], got \[1, 23\]"),
        (
            "text",
            (1, 24, 1, 1),
            [("text", 40)],
            r"text flow needs a latent \[batch, 24\], got \[1, 24, 1, 1\]",
        ),
        ("image", (1, 4, 7, 8), [("text", 40)], "divisible by 16 pixels, got 64x56"),
        (
            "image",
            (1, 4, 6, 8),
            [("text", 40), ("image", 39)],
            "image context layers read tokens of width 40, got 39",
        ),
        ("image", (1, 4, 6, 8), [], "at least one context"),
    ],
)
def test_refusals(diffuser, data, shape, contexts, sentence):
    contexts = [Context(kind, torch.zeros(1, 3, width).double()) for kind, width in contexts]
    with pytest.raises(ValueError, match=sentence):
        diffuser(torch.zeros(shape).double(), torch.tensor([1]), contexts, data)
