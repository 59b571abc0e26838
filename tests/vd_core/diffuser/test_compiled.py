"""The compiled diffuser gives what the plain one gives, whatever changes between two calls, and where it
cannot be compiled, too.

What torch captures is run as it is here (`Captured`): its compiler would take minutes.
`benchmarks/speed.py --compile` runs it.
"""

import copy
import importlib
from dataclasses import replace
from functools import partial

import pytest
import torch
from random_tensors import randn
from rounding import assert_rounded

from runner.core_nodes import CORE_NODES
from vd_core.config import ScheduleConfig, VDConfig
from vd_core.context import Context, Region
from vd_core.diffuser.compiled import Compiled
from vd_core.diffuser.layer_names import name_layers
from vd_core.diffuser.mixing import attention_mixing, layer_mixing
from vd_core.diffuser.model import Diffuser
from vd_core.finite import watch
from vd_core.sampling.corrections import GuidanceOptions
from vd_core.sampling.guidance import guide
from vd_core.sampling.schedule import Schedule

SCHEDULE = Schedule(ScheduleConfig())
ONE_LEVEL = replace(VDConfig.tiny().diffuser, channel_mult=(1,), num_res_blocks=(1,), attention=(True,))


TEXT = Context("text", randn(1, 3, 40, seed=2), randn(1, 3, 40, seed=3), weight=0.3)
PICTURE = Context("image", randn(1, 5, 40, seed=4), weight=0.7)
MASK = torch.cat([torch.ones(1, 1, 6, 4), torch.zeros(1, 1, 6, 4)], dim=3)


class Captured:
    """A backend that runs what was captured, and counts how often something was."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def broken(graph, inputs):
    raise OSError("no compiler\nin sight")


@pytest.fixture
def pair():
    """Yield a plain diffuser, the same one compiled, and the backend."""
    torch.compiler.reset()
    torch.manual_seed(0)
    plain, backend = Diffuser(ONE_LEVEL).requires_grad_(False), Captured()
    compiled = copy.deepcopy(plain)
    compiled.compile(backend=backend)
    yield plain, compiled, backend
    torch.compiler.reset()


@torch.inference_mode()
def assert_same(pair, x, contexts, data="image", cfg=7.5, mixing=lambda: attention_mixing):
    """Run some steps of both, each with its own memory."""
    denoisers = [
        guide(partial(diffuser, mixing=mixing()), SCHEDULE, contexts, data, cfg) for diffuser in pair[:2]
    ]
    expected, found = (torch.stack([denoise(x, t) for t in (981, 501, 1)]) for denoise in denoisers)
    assert expected.abs().max() > 0.1
    assert_rounded(found, expected)


def test_sizes_batches_weights_and_copies(pair):
    assert_same(pair, randn(1, 4, 8, 8), [TEXT])
    assert pair[2].graphs == 1  # one for all steps
    for batch, height, width in ((2, 6, 10), (3, 10, 4), (5, 8, 8)):
        assert_same(pair, randn(batch, 4, height, width, seed=batch), [TEXT])
    assert pair[2].graphs == 2  # one for all sizes
    other = copy.deepcopy(pair)
    for diffuser in other[:2]:
        diffuser.time_embed.linear_2.weight.mul_(3)
    for two in (pair, other):
        assert_same(two, randn(2, 4, 8, 10), [TEXT])
    assert pair[2].graphs == 2


def test_shares_regions_and_token_weights(pair):
    weighted = replace(TEXT, token_weights=torch.tensor([[2.0, 0.5, 0.0]]))
    for mask, weight in ((MASK, 0.3), (MASK.flip(3), 0.1), (MASK, 0.8)):
        assert_same(pair, randn(2, 4, 6, 8), [replace(weighted, region=Region(mask), weight=weight), PICTURE])
    assert pair[2].graphs == 1
    for weight in (0.3, 0.1, 0.8):
        assert_same(pair, randn(2, 4, 6, 8), [replace(TEXT, weight=weight), PICTURE], cfg=10 * weight)
    assert pair[2].graphs <= 3  # not one for each ratio


def test_texts_and_layers_that_overflow(pair):
    assert_same(pair, randn(2, 24), [PICTURE], "text")
    assert pair[2].graphs == 1
    pair[1].data["text"][-1].proj.bias.fill_(torch.inf)
    denoise, x = guide(pair[1], SCHEDULE, [PICTURE], "text"), randn(2, 24)
    with torch.inference_mode():
        assert not denoise(x, 501).isfinite().any() and pair[2].graphs == 1
        with pytest.raises(ValueError, match="output layer gave"), watch(name_layers(pair[1], "text")):
            denoise(x, 501)


def test_layers_that_are_drawn_stay_as_they_are(pair):
    assert_same(pair, randn(1, 4, 8, 8), [TEXT, PICTURE], mixing=lambda: layer_mixing(3))
    assert pair[2].graphs == 0


def test_what_cannot_be_compiled_runs_as_it_is(caplog):
    torch.compiler.reset()
    twice = Compiled(lambda x: 2 * x, backend=broken)
    assert twice(torch.ones(2)).tolist() == twice(torch.ones(2)).tolist() == [2, 2]
    (record,) = [record for record in caplog.records if record.name == "vd_core.diffuser.compiled"]
    assert (
        "runs without it" in record.message and "no compiler" in record.message and "\n" not in record.message
    )


def test_errors_are_those_of_the_plain_diffuser(pair):
    with pytest.raises(ValueError, match="width 40"):
        pair[1](randn(1, 4, 8, 8), torch.tensor([1]), [Context("text", randn(1, 3, 24))], "image")
    with pytest.raises(ValueError, match="mode is one of"):
        pair[1].compile("fast")
    with pytest.raises(RuntimeError, match="mat1"):
        Compiled(lambda x, y: x @ y, backend=Captured())(torch.ones(2, 3), torch.ones(2, 3))


def test_the_node_compiles_a_copy_without_comfyui(pack, models):
    standalone = importlib.import_module(f"{pack.__name__}.nodes.host.standalone")
    stand_in = CORE_NODES["TorchCompileModel"]
    plain = standalone.load_flow(models / "tiny.safetensors", "image", "all", "default")
    guided_more = standalone.with_guidance(plain, GuidanceOptions(start=0.2))
    (copied,) = stand_in().execute(guided_more, "cudagraphs")
    assert copied.guidance == guided_more.guidance and copied.layers.dtype == plain.layers.dtype
    backends = [
        None if (compiled := flow.load_for([TEXT]).diffuser.compiled) is None else compiled.backend
        for flow in (plain, copied)
    ]
    assert backends == [None, "cudagraphs"]
