"""The benchmarks compute what they claim to compare; at tiny sizes, seconds in all."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import measure, speed
from benchmarks.baseline import flops, plain_attention, plain_diffuser, plain_step
from benchmarks.cases import FLOWS, SIZES, Case
from vd_core.diffuser.layers import Attention

TINY = {flow: Case(SIZES["tiny"], data, kinds, pixels=64, batch=2) for flow, (data, kinds) in FLOWS.items()}


@pytest.mark.parametrize("flow", FLOWS)
@torch.inference_mode()
def test_the_baseline_computes_the_same_step(flow):
    case = TINY[flow]
    ours, plain = speed.our_step(case)(), plain_step(case, plain_diffuser(case.diffuser))()
    assert ours.std() > 0.1
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_plain_attention_is_plain_only_inside_and_reads_emphasis():
    torch.manual_seed(0)
    attention, x, emphasis = Attention(8, 2), torch.randn(2, 5, 8), torch.tensor([[1.0, 0, 2, 0.5, 1]])
    product = attention(x, x, emphasis)
    with plain_attention():
        torch.testing.assert_close(attention(x, x, emphasis), product)
        assert Attention.forward.__name__ == "einsum_attention"
    assert Attention.forward.__name__ == "forward"


def test_the_baseline_is_dense_float32_and_shares_what_is_so_already():
    diffuser = TINY["text-to-image"].diffuser
    assert plain_diffuser(diffuser).time_embed.linear_1.weight.data_ptr() == diffuser.time_embed.linear_1.weight.data_ptr()
    half = replace(TINY["text-to-image"], dtype=torch.bfloat16).diffuser.to(memory_format=torch.channels_last)
    weights = list(plain_diffuser(half).parameters())
    assert all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in weights)


# Published: 1.607, 1.637 and 2.407 TFLOP, counted on the official modules.
@pytest.mark.parametrize("flow, teraflops", [("text-to-image", 1.607), ("image-variation", 1.637), ("dual", 2.407)])
def test_flops_of_a_guided_step_at_full_size(flow, teraflops):
    data, kinds = FLOWS[flow]
    assert flops(Case(SIZES["full"], data, kinds, pixels=512)) / 1e12 == pytest.approx(teraflops, abs=5e-4)


def test_contestants_take_turns():
    calls = []
    seconds = measure.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3  # the first round does not count
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_of_neighbours():
    """A machine that is ten times slower in the second round changes no ratio."""
    assert measure.ratios({"ours": [1.0, 10.0, 1.0], "plain": [2.0, 20.0, 2.0]}) == {"plain": 2.0}


def test_speed_writes_what_it_measured(tmp_path):
    file = tmp_path / "speed.json"
    arguments = ["--size", "tiny", "--pixels", "64", "--repeats", "1", "--only", "text-to-text", "captions", "--json", str(file)]
    rows = speed.main(arguments)
    record = json.loads(file.read_text())
    assert record["rows"] == rows and record["benchmark"] == "speed" and record["machine"]["torch"] == torch.__version__
    flow, captions = rows
    assert (flow["what"], captions["what"]) == ("text-to-text", "captions")
    assert flow["medians"]["ours"] == pytest.approx(flow["flops"] / flow["achieved_flops"])
    assert flow["share"] == pytest.approx(flow["achieved_flops"] / flow["matrix_flops"])
