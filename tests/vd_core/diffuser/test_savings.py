"""What a guided step leaves out changes nothing: the walk with all savings against the walk with everything
written out."""

import copy
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest
import torch
from plain_diffuser import plainly
from random_tensors import randn64 as randn

from vd_core.config import ScheduleConfig
from vd_core.context import Context, Region
from vd_core.diffuser import layers
from vd_core.diffuser.layers import Attention, attend
from vd_core.diffuser.mixing import layer_mixing
from vd_core.sampling.corrections import GuidanceOptions
from vd_core.sampling.energy import Energy, steer
from vd_core.sampling.guidance import guide
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
SHAPES = {"image": (4, 6, 8), "text": (24,)}
DATA = pytest.mark.parametrize("data", SHAPES)
TIMES = (981, 501, 1)


@pytest.fixture(scope="module")
def diffuser(model):
    """In double precision: the group norms of the tiny text flow run over two values and amplify rounding."""
    return copy.deepcopy(model.diffuser).double().requires_grad_(False)


ONE = Context("text", randn(1, 3, 40, seed=2), randn(1, 3, 40, seed=3), weight=0.3)
EACH = Context("image", randn(2, 5, 40, seed=4), weight=0.7)
MASK = torch.cat([torch.ones(1, 1, 6, 4), torch.zeros(1, 1, 6, 4)], dim=3)
BLENDS = {
    "one for all": [ONE],
    "one for each": [replace(ONE, tokens=randn(2, 3, 40, seed=5))],
    "null of each": [replace(ONE, null=randn(2, 3, 40, seed=6))],
    "zeros": [EACH],
    "zeros for all": [replace(EACH, tokens=EACH.tokens[:1])],
    "dual": [ONE, EACH],
    "two of a kind": [ONE, replace(ONE, tokens=randn(1, 4, 40, seed=7), null=None)],
    "guidance of its own": [replace(ONE, guidance=2.0), EACH],
    "guidance 0": [ONE, replace(EACH, guidance=0.0)],
    "token weights": [replace(ONE, token_weights=torch.tensor([[2.0, 0.5, 1.0]]))],
    "token weights, zeros": [
        replace(EACH, token_weights=torch.tensor([[2.0, 0.5, 1.0, 0, 1]] * 2, dtype=torch.float64))
    ],
    "from a step on": [replace(ONE, region=Region(start=0.3)), EACH],
}


def steps(denoise, data, batch=2):
    """Predictions at some times for latents that change."""
    return torch.stack([denoise(randn(batch, *SHAPES[data], seed=t), t) for t in TIMES])


def assert_equal_up_to_rounding(a, b):
    assert a.abs().max() > 0.1
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@DATA
@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("cfg", [0, 1, 7.5])
def test_steps_are_those_with_everything_written_out(diffuser, data, blend, cfg):
    fast, slow = (guide(walk, SCHEDULE, BLENDS[blend], data, cfg) for walk in (diffuser, plainly(diffuser)))
    assert_equal_up_to_rounding(steps(fast, data), steps(slow, data))


def test_maps_of_regions(diffuser):
    for masks in (MASK, torch.cat([MASK, MASK.flip(3)])):
        contexts = [replace(ONE, region=Region(masks)), EACH]
        fast, slow = (
            guide(walk, SCHEDULE, contexts, "image", [2.0, 5.0]) for walk in (diffuser, plainly(diffuser))
        )
        assert_equal_up_to_rounding(steps(fast, "image"), steps(slow, "image"))


@DATA
def test_layer_mixing_and_guidance_that_comes_and_goes(diffuser, data):
    options = GuidanceOptions(start=0.2, end=0.7)
    walks = (partial(walk, mixing=layer_mixing(3)) for walk in (diffuser, plainly(diffuser)))
    fast, slow = (guide(walk, SCHEDULE, [ONE, EACH], data, 4.0, options) for walk in walks)
    assert_equal_up_to_rounding(steps(fast, data), steps(slow, data))


# remembered with gradients, without, or used by both
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.0, 0.3), (0.3, 1.0)])
def test_gradients_pass_through_what_is_remembered(diffuser, start, end):
    energy = Energy(lambda x0, alpha: x0.square().flatten(1).sum(dim=1), 0.5, start, end)
    fast, slow = (
        steer(guide(walk, SCHEDULE, [ONE, EACH], "image", 4.0), SCHEDULE, [energy])
        for walk in (diffuser, plainly(diffuser))
    )
    with torch.inference_mode():
        assert_equal_up_to_rounding(steps(fast, "image"), steps(slow, "image"))


def test_a_denoiser_takes_latents_of_any_batch_and_type(diffuser):
    denoise = guide(diffuser, SCHEDULE, [ONE], "image", 4.0)
    for batch in (2, 3, 1):
        assert_equal_up_to_rounding(
            steps(denoise, "image", batch),
            steps(guide(plainly(diffuser), SCHEDULE, [ONE], "image", 4.0), "image", batch),
        )
    half = copy.deepcopy(diffuser).half()
    denoise = guide(half, SCHEDULE, [ONE], "image", 4.0)
    assert denoise(randn(1, 4, 6, 8).half(), 501).dtype == torch.float16


@DATA
def test_keys_and_values_are_computed_once_and_for_each_token_once(diffuser, data):
    computed = []
    keys_values = Attention.keys_values

    def counted(self, context):
        computed.append(context.shape[:2])
        return keys_values(self, context)

    denoise = guide(diffuser, SCHEDULE, [ONE, EACH], data, 7.5)
    with patch.object(Attention, "keys_values", counted):
        denoise(randn(2, *SHAPES[data]), 981)
        layers, tokens = len(diffuser.context["text"]), {(2, 3), (2, 5)}
        # text: both sides; image: of both samples, and no zeros
        assert sum(shape in tokens for shape in computed) == 2 * layers
        computed.clear()
        denoise(randn(2, *SHAPES[data]), 501)
        assert not any(shape in tokens for shape in computed) and computed


def test_evaluations_part_where_they_read(diffuser):
    """Before a context is read, the layers see each sample once."""
    seen = []
    layers, first = diffuser.data["image"], diffuser.context["text"][0].transformer_blocks[0]
    modules = [layers[0], layers[1], first.attn1, first.attn2.to_q, first.ff, layers[2]]
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
        for module in modules
    ]
    guide(diffuser, SCHEDULE, [ONE], "image", 7.5)(randn(3, 4, 6, 8), 501)
    for hook in hooks:
        hook.remove()
    assert seen == [3, 3, 3, 6, 6, 6]


def test_zero_tokens_are_read_as_the_bias_to_the_bit(diffuser):
    attention = diffuser.context["image"][0].transformer_blocks[0].attn2
    x = randn(2, 7, attention.to_q.in_features)
    assert torch.equal(
        attention(x, torch.zeros(2, 5, 40, dtype=x.dtype)), attention.to_out[0].bias.expand_as(x)
    )


def test_silent_evaluations_are_not_attended(diffuser):
    rows = []
    attention = diffuser.context["image"][0].transformer_blocks[0].attn2
    hook = attention.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    guide(diffuser, SCHEDULE, [EACH], "image", 7.5)(randn(2, 4, 6, 8), 501)
    hook.remove()
    assert rows == [2]


def test_rows_that_cannot_be_shared_are_refused(diffuser):
    with pytest.raises(ValueError, match="2 rows of tokens cannot be shared by 3 samples"):
        diffuser(randn(3, 4, 6, 8), torch.tensor([1]), [Context("text", randn(2, 5, 40))], "image")


@pytest.mark.parametrize("at_once", [1 << 20, 600, 100])  # all heads, two heads, blocks of 20 queries
@pytest.mark.parametrize("token_weights", [None, (2.0, 0.5, 1.0, 0.0, 1.0)])
def test_attention_in_blocks_is_as_exact_as_torch_in_bfloat16(token_weights, at_once, monkeypatch):
    monkeypatch.setattr(layers, "SCORES", at_once)
    q, k, v = randn(2, 3, 60, 40), randn(2, 3, 5, 40, seed=1), randn(2, 3, 5, 40, seed=2)
    bias = (
        None if token_weights is None else torch.tensor(token_weights, dtype=q.dtype).log().expand(2, 1, 1, 5)
    )
    exact = attend(q, k, v, bias)
    torch.testing.assert_close(exact, torch.einsum("bhij,bhjd->bhid", weights(q, k, bias), v))
    halves = [None if part is None else part.bfloat16() for part in (q, k, v, bias)]
    ours, theirs = (
        product(*halves).double() - exact
        for product in (attend, torch.nn.functional.scaled_dot_product_attention)
    )
    assert ours.norm() < 1.5 * theirs.norm() < 0.02 * exact.norm()


def weights(q, k, bias):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1)
