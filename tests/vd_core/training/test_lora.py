"""LoRA: identity at first, merged equals attached, its file, and learning."""

import copy
import logging

import pytest
import torch
from safetensors.torch import save_file

from vd_core.__main__ import main
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora, read_lora, save_lora
from vd_core.checkpoints.lora_changes import Change, find_adaptable, merge_change
from vd_core.checkpoints.lora_names import list_file_names
from vd_core.config import ScheduleConfig, VDConfig
from vd_core.context import Context
from vd_core.diffuser.model import Diffuser
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.schedule import Schedule
from vd_core.training.diffuser import FlowData, flow_losses
from vd_core.training.loop import fit
from vd_core.training.lora import Lora, extract, select

ALL = ("context", "data", "time_embed")


@pytest.fixture
def diffuser(model):
    return copy.deepcopy(model.diffuser)


def changed(diffuser, words=ALL, rank=3, alpha=6.0):
    """Return a LoRA with weights that do something."""
    torch.manual_seed(1)
    lora = Lora(diffuser, select(diffuser, words), rank, alpha)
    for layer in lora.layers:
        torch.nn.init.normal_(layer.up, std=0.05)
    return lora


@torch.no_grad()
def outputs(diffuser):
    """All four flows, and a blend."""
    torch.manual_seed(2)
    image, text, t = torch.randn(2, 4, 4, 4), torch.randn(2, 24), torch.tensor([5, 700])
    contexts = {"image": torch.randn(2, 5, 40), "text": torch.randn(2, 3, 40)}
    singles = [[Context(kind, contexts[kind])] for kind in contexts]
    blend = [Context("image", contexts["image"], weight=0.3), Context("text", contexts["text"], weight=0.7)]
    found = [
        diffuser(x, t, chosen, data)
        for data, x in (("image", image), ("text", text))
        for chosen in (*singles, blend)
    ]
    return torch.cat([output.flatten() for output in found])


def test_the_lora_that_comes_nearest_to_what_training_changed(diffuser):
    """A change of low rank comes back whole; of a full one the largest singular values, and no error is
    smaller."""
    learned, after = changed(diffuser, rank=3).changes(), copy.deepcopy(diffuser)
    layers = find_adaptable(after)
    with torch.no_grad():
        for name, change in learned.items():
            layers[name].weight += change.delta()
        after.time_embed.linear_1.bias += 1
    found = extract(diffuser, after, 3)
    assert found.keys() == learned.keys()
    for name, change in found.items():
        assert change.rank <= 3 and change.alpha == change.rank
        torch.testing.assert_close(change.delta(), learned[name].delta(), atol=1e-5, rtol=1e-4)
    name = "time_embed.linear_1"
    with torch.no_grad():
        layers[name].weight += torch.randn(layers[name].weight.shape)
    whole = (layers[name].weight - find_adaptable(diffuser)[name].weight).detach()
    values = torch.linalg.svdvals(whole)
    rest = whole - extract(diffuser, after, 2)[name].delta()
    assert rest.norm().item() == pytest.approx(values[2:].norm().item(), rel=1e-3)
    assert extract(diffuser, diffuser, 2) == {}
    with pytest.raises(ValueError, match="at least 1, got 0"):
        extract(diffuser, after, 0)


def test_a_new_lora_changes_nothing_bit_for_bit(diffuser):
    before = outputs(diffuser)
    with Lora(diffuser, select(diffuser, ALL), 4, 4.0).attach(diffuser):
        assert torch.equal(outputs(diffuser), before)


def test_attached_equals_merged_and_leaves_no_trace(diffuser, tmp_path):
    before = outputs(diffuser)
    lora = changed(diffuser)
    with lora.attach(diffuser):
        attached = outputs(diffuser)
    assert torch.equal(outputs(diffuser), before) and (attached - before).abs().max() > 0.1
    for data in ("image", "text"):
        save_lora(tmp_path / f"{data}.safetensors", lora.changes(), diffuser.config, [data])
    save_lora(tmp_path / "both.safetensors", lora.changes(), diffuser.config, ["image", "text"])
    assert (
        apply_lora(VersatileDiffusion(VDConfig.tiny(), diffuser), tmp_path / "both.safetensors")
        == len(lora.names)
        == len(find_adaptable(diffuser))
    )
    # The group norms of the tiny text flow run over two values and amplify rounding.
    assert (outputs(diffuser) - attached).norm() < 1e-4 * (attached - before).norm()


def test_strength_scales_the_change_and_zero_touches_nothing(diffuser, tmp_path):
    lora, before = changed(diffuser), copy.deepcopy(diffuser.state_dict())
    save_lora(tmp_path / "a.safetensors", lora.changes(), diffuser.config, ["image", "text"])
    apply_lora(VersatileDiffusion(VDConfig.tiny(), diffuser), tmp_path / "a.safetensors", 0)
    assert all(torch.equal(value, before[key]) for key, value in diffuser.state_dict().items())
    apply_lora(VersatileDiffusion(VDConfig.tiny(), diffuser), tmp_path / "a.safetensors", 0.5)
    for layer, change in lora.changes().items():
        weight = before[f"{layer}.weight"]
        product = change.up.flatten(1) @ change.down.flatten(1)
        torch.testing.assert_close(
            diffuser.state_dict()[f"{layer}.weight"], weight + 0.5 * (6 / 3) * product.reshape(weight.shape)
        )
    weight = next(iter(lora.changes().values()))
    assert (
        merge_change(before["time_embed.linear_1.weight"], weight, 0) is before["time_embed.linear_1.weight"]
    )


def test_half_precision_weights_are_rounded_once():
    change = Change(torch.full((1, 2), 1e-4), torch.ones(2, 1), 1.0)
    weight = torch.ones(2, 2, dtype=torch.float16)
    assert torch.equal(merge_change(weight, change, 5.0), (weight.float() + 5e-4).half())


def test_words_choose_layers(diffuser):
    names = list(find_adaptable(diffuser))
    assert select(diffuser, ALL) == names
    assert select(diffuser, ["context.text"]) == [name for name in names if name.startswith("context.text.")]
    assert select(diffuser, [":attn2"]) == [name for name in names if ".attn2." in name]
    attention = select(diffuser, ["context.image:attn", "context.image:attn1"])
    assert attention == [name for name in names if name.startswith("context.image.") and ".attn" in name]
    assert not set(attention) & set(select(diffuser, ["context.image:ff", "context.image:proj"]))
    for word in ("context.sound", "tex", "data.image:attn"):
        with pytest.raises(ValueError, match=f'"{word}" chooses no layer'):
            select(diffuser, [word])
    with pytest.raises(ValueError, match="rank of a LoRA is at least 1"):
        Lora(diffuser, names, 0, 1.0)


def test_names_in_files_are_those_of_comfyuis_models(config):
    layers = (
        "context.text.0.proj_in",
        "context.image.0.transformer_blocks.0.attn2.to_k",
        "time_embed.linear_1",
        "data.text.0.linear",
    )
    assert list(list_file_names(layers, config.diffuser, ["image"]).values()) == [
        ["diffusion_model.input_blocks.1.1.proj_in"],
        ["diffusion_model.input_blocks.1.1.image.transformer_blocks.0.attn2.to_k"],
        ["diffusion_model.time_embed.0"],
        [],
    ]
    assert list(list_file_names(layers, config.diffuser, ["text"]).values()) == [
        [f"diffusion_model.{layer}"] for layer in layers
    ]
    assert len(list_file_names(layers, config.diffuser, ["image", "text"])["time_embed.linear_1"]) == 2


def test_a_file_for_one_model_is_read_by_that_model_only(diffuser, config, tmp_path, caplog):
    lora = changed(diffuser, ["context.text:attn2"])
    save_lora(tmp_path / "image.safetensors", lora.changes(), config.diffuser, ["image"], torch.float16)
    writer = Diffuser(config.diffuser, ["text"], ["text"])
    with pytest.raises(ValueError, match="changes none of the layers of this model"):
        read_lora(tmp_path / "image.safetensors", writer)
    painter = Diffuser(config.diffuser, ["image"], ["text"])
    read = read_lora(tmp_path / "image.safetensors", painter)
    assert [layer.removeprefix("diffuser.") for layer in read] == lora.names and all(
        change.alpha == 6 and change.up.dtype == torch.float16 for change in read.values()
    )
    with caplog.at_level(logging.WARNING):
        save_lora(tmp_path / "more.safetensors", changed(diffuser).changes(), config.diffuser, ["image"])
        read_lora(tmp_path / "more.safetensors", painter)
    assert "keys that change nothing: diffusion_model." in caplog.text


def test_files_that_are_no_lora_for_this_model(diffuser, tmp_path):
    name = "diffusion_model.time_embed.0"
    save_file(
        {f"{name}.lora_A.weight": torch.zeros(2, 7), f"{name}.lora_B.weight": torch.zeros(9, 2)},
        tmp_path / "sizes.safetensors",
    )
    with pytest.raises(
        ValueError,
        match=r"lora_B.weight in .* changes a weight of shape \[9, 7\] where this model has \[128, 32\]",
    ):
        read_lora(tmp_path / "sizes.safetensors", diffuser)


def test_a_lora_in_place_of_a_model_is_told_what_it_is_for(diffuser, tmp_path, capsys):
    path = tmp_path / "lora.safetensors"
    save_lora(path, changed(diffuser).changes(), diffuser.config, ["image"])
    for arguments in (["inspect", str(path)], ["convert", str(path), str(tmp_path / "out.safetensors")]):
        assert main(arguments) == 1
        assert "looks like a LoRA, not a model: load it with the node Load LoRA" in capsys.readouterr().err


def test_converted_with_a_lora(models, diffuser, tmp_path):
    lora = changed(diffuser)
    save_lora(tmp_path / "a.safetensors", lora.changes(), diffuser.config, ["image", "text"])
    convert(
        models / "tiny.safetensors", tmp_path / "out.safetensors", loras=[(tmp_path / "a.safetensors", 0.5)]
    )
    apply_lora(VersatileDiffusion(VDConfig.tiny(), diffuser), tmp_path / "a.safetensors", 0.5)
    found = load(tmp_path / "out.safetensors").diffuser.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in diffuser.state_dict().items())
    convert(tmp_path / "out.safetensors", tmp_path / "half.safetensors", dtype=torch.float16)
    convert(
        models / "tiny.safetensors",
        tmp_path / "once.safetensors",
        loras=[(tmp_path / "a.safetensors", 0.5)],
        dtype=torch.float16,
    )
    assert (tmp_path / "once.safetensors").read_bytes() == (
        tmp_path / "half.safetensors"
    ).read_bytes()  # rounded once


def test_the_loss_falls_and_only_the_lora_learns(diffuser, tmp_path):
    torch.manual_seed(0)
    diffuser.requires_grad_(False)
    before = copy.deepcopy(diffuser.state_dict())
    flows = FlowData(
        {"image": torch.randn(2, 4, 4, 4)}, {"text": torch.randn(2, 3, 40)}, {"text": torch.zeros(1, 3, 40)}
    )
    plain = flow_losses(
        flows, Schedule(ScheduleConfig()), {("image", "text"): 8}, dropout=0, precision=torch.float32
    )
    lora = Lora(diffuser, select(diffuser, ALL), 4, 4.0)
    seen = []

    def losses(module, generator):
        with module.attach(diffuser):
            for name, loss in plain(diffuser, generator):
                seen.append(loss.item())
                yield name, loss

    fit(lora, losses, tmp_path, steps=100, lr=8e-3, warmup=5, trained_on={}, ema=0)
    assert sum(seen[-20:]) < 0.75 * sum(seen[:20]), (sum(seen[:20]), sum(seen[-20:]))
    assert all(torch.equal(value, before[key]) for key, value in diffuser.state_dict().items())
