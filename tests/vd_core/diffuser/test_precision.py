"""Weights of fewer bits under samplers of float32, and which type is chosen for a CPU."""

import copy

import pytest
import torch
from random_tensors import randn

from vd_core.context import Context
from vd_core.diffuser import precision
from vd_core.sampling.guidance import guide
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.schedule import Schedule

SHAPES = {"image": (2, 4, 6, 8), "text": (2, 24)}


def unit(*shape, seed=0):
    """Tokens of norm 1, as CLIP's are."""
    return torch.nn.functional.normalize(randn(*shape, seed=seed), dim=-1)


CONTEXTS = [
    Context("text", unit(1, 3, 40), unit(1, 3, 40, seed=1), token_weights=torch.tensor([[2.0, 1.0, 0.5]])),
    Context("image", unit(2, 5, 40, seed=2)),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sample_of_fewer_bits_is_near_and_of_the_latents_type(model, dtype):
    lower = model.replace(diffuser=copy.deepcopy(model.diffuser).to(dtype))
    full, short = (
        each.sample(
            "image", CONTEXTS, torch.zeros(SHAPES["image"]), sample_noise(1), Sampling(steps=4, cfg=2.0)
        )
        for each in (model, lower)
    )
    assert short.dtype == torch.float32 and not torch.equal(full, short)
    assert (full - short).norm() < 20 * torch.finfo(dtype).eps * full.norm()
    assert not torch.equal(short, short.to(dtype).float())  # the sampler's own arithmetic keeps its bits


@pytest.mark.parametrize("data", SHAPES)
def test_with_its_own_type_a_diffuser_is_itself_to_the_bit(model, data):
    x, contexts = randn(*SHAPES[data]), [Context("text", CONTEXTS[0].tokens)]
    denoise = guide(model.diffuser, Schedule(model.config.schedule), contexts, data, 1.0, dtype=torch.float32)
    assert torch.equal(denoise(x, 501), model.diffuser(x, torch.tensor([501]), contexts, data))


@pytest.mark.parametrize(
    ("times", "chosen"), [(4.0, torch.bfloat16), (1.2, torch.float32), (0.1, torch.float32)]
)
def test_bfloat16_is_chosen_where_it_is_much_faster(monkeypatch, caplog, times, chosen):
    seconds = {torch.float32: times, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "time_product", seconds.get)
    caplog.set_level("INFO")
    precision.find_fastest_dtype.cache_clear()
    assert precision.find_fastest_dtype() == precision.find_fastest_dtype() == chosen
    precision.find_fastest_dtype.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        f"Weights become {str(chosen)[6:]}: this processor multiplies bfloat16 {times:.1f} times as fast as "
        "float32."
    ]


def test_products_are_timed():
    assert 0 < precision.time_product(torch.float32) < 10


@pytest.mark.parametrize(
    ("choice", "dtype"), [("default", "float32"), ("bf16", "bfloat16"), ("auto", "bfloat16")]
)
def test_the_loader_of_the_standalone_host(pack, models, monkeypatch, choice, dtype):
    monkeypatch.setenv("VD_MODELS", str(models))
    standalone = __import__(f"{pack.__name__}.nodes.host.standalone", fromlist=["load_flow"])
    monkeypatch.setattr(standalone, "find_fastest_dtype", lambda: torch.bfloat16)
    flow = standalone.load_flow(models / "tiny.safetensors", "image", "all", choice)
    diffuser = flow.layers.load_for(["text"]).diffuser
    assert {str(weight.dtype)[6:] for weight in diffuser.parameters()} == {dtype}
