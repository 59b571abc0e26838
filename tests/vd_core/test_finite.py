"""Values that are too large for their type: the layer where they arise is named, and nothing is black without
a word."""

import importlib
import sys

import pytest
import torch

from runner.pack import load_pack
from vd_core.config import VDConfig
from vd_core.context import Context
from vd_core.diffuser.layer_names import name_layers
from vd_core.diffuser.model import Diffuser
from vd_core.finite import watch


@pytest.fixture(scope="module")
def nodes():
    """Return the pack's nodes in the standalone host."""
    pack = load_pack(name="versatile_diffusion_overflowing")
    return pack.NODE_CLASS_MAPPINGS, importlib.import_module(f"{pack.__name__}.nodes.host.standalone")


def run(nodes, change=lambda flow: None, **inputs):
    """Return a picture's latent by the Multi-Flow Sampler, after a change of the model."""
    classes, host = nodes
    flow = host.load_flow(host.MODEL, "image", "all", "default")
    (clip,) = classes["VD_LoadClip"]().execute(model="embedded")
    positive, negative = classes["VD_TextContext"]().execute(
        clip=clip, text="red apple, 3d style", negative_text=""
    )
    flow.layers.load_for(["text"])
    with torch.inference_mode(False), torch.no_grad():
        change(flow.layers.model.diffuser)
    given = {
        "seed": 1,
        "steps": 2,
        "cfg": 2.0,
        "sampler": "ddim",
        "eta": 0.5,
        "fidelity": 0.0,
        "noise": "per sample",
    }
    latent = {"samples": torch.zeros(1, 16, 8, 8)}
    return classes["VD_Sampler"]().execute(flow, positive, negative, latent, **{**given, **inputs})[0][
        "samples"
    ]


def test_a_model_as_it_is_needs_no_second_walk(nodes, monkeypatch):
    monkeypatch.setattr(sys.modules[nodes[1].check_samples.__module__], "watch", None)
    assert run(nodes).isfinite().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda d: d.context["text"][-1].proj_out.weight.mul_(1e38),
            r"Output block \d's text context layer gave inf in float32: ",
        ),
        (
            lambda d: d.context["text"][0].proj_out.weight.mul_(1e38),
            "Input block 1's text context layer gave ",
        ),
        (
            lambda d: d.data["image"][-1].proj.weight.mul_(3e38),
            "The output layer gave inf in float32: its weights are damaged",
        ),
        (
            lambda d: d.data["image"][1].conv1.bias.fill_(float("nan")),
            "Input block 1's residual layer gave NaN in float32: ",
        ),
    ],
)
def test_the_layer_is_named(nodes, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(nodes, change)


def test_guidance_beyond_all_numbers_is_no_layers_fault(nodes):
    with pytest.raises(ValueError, match="cfg is far too high"):
        run(nodes, cfg=1e38, steps=4)


def test_contexts_that_are_not_finite_are_no_layers_fault():
    with (
        pytest.raises(ValueError, match="a context holds such values"),
        watch([], torch.tensor([float("nan")])),
    ):
        pass


def test_half_precision_is_told_what_to_do():
    torch.manual_seed(0)
    config = VDConfig.tiny().diffuser
    diffuser = Diffuser(config).requires_grad_(False)
    layers = dict(name_layers(diffuser, "image"))
    assert len(layers) == len([step for step in diffuser.plan if step.op == "data"]) + sum(
        map(len, diffuser.context.values())
    )
    name = next(reversed([name for name in layers if "text context" in name]))
    layers[name].proj_out.weight.fill_(3e4)
    layers[name].proj_out.bias.fill_(6e4)
    width = config.context["text"]
    given = (
        torch.randn(1, config.data["image"].channels, 8, 8),
        torch.tensor([500]),
        [Context("text", torch.randn(1, 5, width))],
        "image",
    )
    diffuser.float()(*given)
    with watch(layers.items()):  # all well in float32
        diffuser(*given)
    with (
        watch(layers.items()),
        pytest.raises(ValueError, match=f"{name} gave inf in float16: load the model with weight_dtype bf16"),
    ):
        diffuser.half()(given[0].half(), given[1], [Context("text", given[2][0].tokens.half())], "image")
    assert not any(layer._forward_hooks for layer in layers.values())
