"""LoRA files for Stable Diffusion 1 in the names of four programs, and files that are no LoRA for this
model.
"""

import copy
import json
import logging

import pytest
import torch
import torch.nn.functional as F
from lora_files import values
from safetensors.torch import save_file

from vd_core.checkpoints.lora import apply_lora, read_lora
from vd_core.checkpoints.lora_changes import find_adaptable, merge_change
from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.flows import VersatileDiffusion

LAYER = "context.text.0.transformer_blocks.0.attn2.to_q"
NATIVE = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q"


def halves(key: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the product of the two halves of a layer, from the key of its second half."""
    first = (
        key.replace("lora_B.", "lora_A.").replace("lora_up.", "lora_down.").replace("lora.up.", "lora.down.")
    )
    return tensors[key].flatten(1) @ tensors[first].flatten(1)


BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0.attn2."
QUERY = {  # the second half of one layer, `LAYER`, in each naming
    "kohya": f"lora_unet_{BLOCK}to_q".replace(".", "_") + ".lora_up.weight",
    "peft": f"base_model.model.{BLOCK}to_q.lora_B.weight",
    "diffusers": f"unet.{BLOCK}to_q.lora_B.weight",
    "2023": f"{BLOCK}processor.to_q_lora.up.weight",
}


@pytest.mark.parametrize(
    "naming, unet, text", [("peft", 83, 0), ("diffusers", 83, 12), ("kohya", 83, 12), ("2023", 32, 0)]
)
def test_all_layers_of_a_file_are_found(naming, unet, text, model, tmp_path, caplog):
    tensors = values(naming)
    save_file(tensors, tmp_path / "lora.safetensors")
    with caplog.at_level(logging.WARNING):
        changes = read_lora(tmp_path / "lora.safetensors", model.diffuser, model.clip.text_tower)
    assert not caplog.records
    assert sum(layer.startswith("diffuser.") for layer in changes) == unet
    assert sum(layer.startswith("clip_text.") for layer in changes) == text
    # Each is the change that its name says, and all of the file's are different.
    products = [
        halves(key, tensors)
        for key in tensors
        if key.endswith(("lora_B.weight", "lora_up.weight", "lora.up.weight"))
    ]
    deltas = [change.delta().flatten(1) * (change.rank / change.alpha) for change in changes.values()]
    assert len(products) == len(deltas)
    assert all(
        any(delta.shape == one.shape and torch.allclose(delta, one, atol=1e-5) for one in products)
        for delta in deltas
    )
    change = changes[f"diffuser.{LAYER}"]
    torch.testing.assert_close(change.delta() * (change.rank / change.alpha), halves(QUERY[naming], tensors))


def test_layers_lie_where_stable_diffusion_has_them(model, tmp_path):
    save_file(values("kohya"), tmp_path / "lora.safetensors")
    layers = {layer.partition(".")[2] for layer in read_lora(tmp_path / "lora.safetensors", model.diffuser)}
    parts = {".".join(layer.split(".")[:2]) for layer in layers if not layer.startswith("time_embed")}
    assert parts == {"data.image", "context.text"} and "time_embed.linear_1" in layers
    assert layers == {
        name for name in find_adaptable(model.diffuser) if not name.startswith(("data.text", "context.image"))
    }


def test_what_changes_other_layers_is_counted_and_named(model, tmp_path, caplog):
    tensors = values("kohya")
    more = {
        "lora_te2_text_model_layers_0.lora_up.weight": torch.ones(2, 2),
        "lora_te2_text_model_layers_0.lora_down.weight": torch.ones(2, 2),
    }
    save_file(tensors | more, tmp_path / "lora.safetensors")
    with caplog.at_level(logging.WARNING):
        read_lora(tmp_path / "lora.safetensors", model.diffuser)
    assert "38 keys that change nothing: lora_te" in caplog.text


def few_step_layout(widths=(320, 640, 1280, 1280), context=768, time=1280) -> dict[str, tuple[int, ...]]:
    """Diffusers' names of the layers that the published LCM LoRA for Stable Diffusion 1.5 changes, with the
    shapes of their weights: all but the first and last convolution and the time embedding.
    """
    layers: dict[str, tuple[int, ...]] = {}

    def resnet(name, inputs, outputs):
        layers[f"{name}.conv1"], layers[f"{name}.conv2"] = (outputs, inputs, 3, 3), (outputs, outputs, 3, 3)
        layers[f"{name}.time_emb_proj"] = (outputs, time)
        if inputs != outputs:
            layers[f"{name}.conv_shortcut"] = (outputs, inputs, 1, 1)

    def transformer(name, width):
        block = f"{name}.transformer_blocks.0"
        for attention, tokens in (("attn1", width), ("attn2", context)):
            for letter, inputs in (("q", width), ("k", tokens), ("v", tokens), ("out.0", width)):
                layers[f"{block}.{attention}.to_{letter}"] = (width, inputs)
        layers[f"{block}.ff.net.0.proj"], layers[f"{block}.ff.net.2"] = (8 * width, width), (width, 4 * width)
        for side in ("proj_in", "proj_out"):
            layers[f"{name}.{side}"] = (width, width, 1, 1)

    skips, width = [widths[0]], widths[0]
    for level, outputs in enumerate(widths):
        for number in range(2):
            resnet(f"down_blocks.{level}.resnets.{number}", width, outputs)
            width = outputs
            skips.append(width)
            if level < 3:
                transformer(f"down_blocks.{level}.attentions.{number}", width)
        if level < 3:
            layers[f"down_blocks.{level}.downsamplers.0.conv"] = (width, width, 3, 3)
            skips.append(width)
    resnet("mid_block.resnets.0", width, width)
    transformer("mid_block.attentions.0", width)
    resnet("mid_block.resnets.1", width, width)
    for level, outputs in enumerate(reversed(widths)):
        for number in range(3):
            resnet(f"up_blocks.{level}.resnets.{number}", width + skips.pop(), outputs)
            width = outputs
            if level > 0:
                transformer(f"up_blocks.{level}.attentions.{number}", width)
        if level < 3:
            layers[f"up_blocks.{level}.upsamplers.0.conv"] = (width, width, 3, 3)
    return layers


@pytest.mark.parametrize("naming", ["kohya", "diffusers"])
def test_a_published_few_step_lora_lands_whole(naming, tmp_path, caplog):
    """At full size: each of its 278 layers is found, in its own shape, and what VD lacks is named."""
    layout = few_step_layout()
    assert len(layout) == 278
    tensors, generator = {}, torch.Generator().manual_seed(0)
    for name, (outputs, *inputs) in layout.items():
        down = torch.randn(1, *inputs, generator=generator)
        up = torch.randn(outputs, 1, *[1] * (len(inputs) - 1), generator=generator)
        if naming == "kohya":
            start = f"lora_unet_{name.replace('.', '_')}"
            tensors |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up}
            tensors[f"{start}.alpha"] = torch.tensor(0.5)
        else:
            tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    foreign = "lora_unet_down_blocks_0_motion_modules_0_proj_in"
    tensors |= {f"{foreign}.lora_{half}.weight": torch.ones(1, 1) for half in ("down", "up")}
    save_file(tensors, tmp_path / "lora.safetensors")
    with torch.device("meta"):
        diffuser = Diffuser(VDConfig().diffuser)
    with caplog.at_level(logging.WARNING):
        changes = read_lora(tmp_path / "lora.safetensors", diffuser)
    assert f"2 keys that change nothing: {foreign}" in caplog.text
    layers = {f"diffuser.{name}": layer for name, layer in find_adaptable(diffuser).items()}
    picture = {name for name in layers if name.startswith(("diffuser.data.image", "diffuser.context.text"))}
    ends = {
        name for name in picture if layers[name].weight.shape[0] == 4 or layers[name].weight.shape[1] == 4
    }
    assert len(ends) == 2 and changes.keys() == picture - ends  # the first and last convolution
    found = sorted(tuple(layers[name].weight.shape) for name in changes)
    assert found == sorted(layout.values())
    assert {change.alpha for change in changes.values()} == {0.5 if naming == "kohya" else 1.0}


def test_the_settings_of_peft_say_the_alpha(model, tmp_path):
    (tmp_path / "adapter").mkdir()
    save_file(values("peft"), tmp_path / "adapter" / "adapter_model.safetensors")
    for settings, expected in (
        ({}, 3),
        ({"lora_alpha": 6}, 6),
        ({"lora_alpha": 6, "use_rslora": True}, 6 * 3**0.5),
    ):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
        for path in (tmp_path / "adapter", tmp_path / "adapter" / "adapter_model.safetensors"):
            changes = read_lora(path, model.diffuser)
            assert [change.alpha for change in changes.values()] == pytest.approx([expected] * 83)
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 6, "text_encoder.lora_alpha": 4})}
    save_file(values("diffusers"), tmp_path / "lora.safetensors", header)
    changes = read_lora(tmp_path / "lora.safetensors", model.diffuser, model.clip.text_tower)
    assert {layer.partition(".")[0]: change.alpha for layer, change in changes.items()} == {
        "diffuser": 6,
        "clip_text": 4,
    }


def test_locon_and_loha(model, tmp_path):
    """Convolutions in two and in three factors, and products of two products (LyCORIS)."""
    conv, kohya = "data.image.1.conv1", "lora_unet_down_blocks_0_resnets_0_conv1"
    query = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
    torch.manual_seed(0)
    up, mid, down = torch.randn(32, 3, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(3, 32, 1, 1)
    a, b, c, d = torch.randn(32, 2), torch.randn(2, 32), torch.randn(32, 2), torch.randn(2, 32)
    tensors = {
        f"{kohya}.lora_{name}.weight": tensor for name, tensor in (("up", up), ("mid", mid), ("down", down))
    }
    tensors |= {
        f"{query}.hada_{name}": tensor
        for name, tensor in (("w1_a", a), ("w1_b", b), ("w2_a", c), ("w2_b", d))
    }
    save_file(tensors | {f"{query}.alpha": torch.tensor(1.0)}, tmp_path / "lora.safetensors")
    changes = read_lora(tmp_path / "lora.safetensors", model.diffuser)
    # As the three convolutions in a row compute it on a picture.
    picture = torch.randn(1, 32, 6, 6)
    expected = F.conv2d(F.conv2d(F.conv2d(picture, down), mid), up)
    torch.testing.assert_close(
        F.conv2d(picture, changes[f"diffuser.{conv}"].delta()), expected, atol=1e-3, rtol=1e-4
    )
    torch.testing.assert_close(changes[f"diffuser.{LAYER}"].delta(), 0.5 * (a @ b) * (c @ d))


def lora(**changed) -> dict[str, torch.Tensor]:
    """Return a small LoRA of one layer with other tensors in it."""
    tensors = {
        "lora_A.weight": torch.ones(2, 32),
        "lora_B.weight": torch.ones(32, 2),
        "alpha": torch.tensor(2.0),
    } | changed
    return {f"{NATIVE}.{name}": tensor for name, tensor in tensors.items() if tensor is not None}


BAD = {
    "rank 0": (
        lora(**{"lora_A.weight": torch.ones(0, 32), "lora_B.weight": torch.ones(32, 0)}),
        r"is \[0, 32\] torch.float32 where a matrix",
    ),
    "0-d": (
        lora(**{"lora_A.weight": torch.tensor(1.0)}),
        r"is \[\] torch.float32 where a matrix of a LoRA is needed",
    ),
    "1-d": (
        lora(**{"lora_B.weight": torch.ones(32)}),
        r"is \[32\] torch.float32 where a matrix of a LoRA is needed",
    ),
    "integers": (
        lora(**{"lora_B.weight": torch.ones(32, 2, dtype=torch.int32)}),
        "torch.int32 where a matrix of a LoRA is needed",
    ),
    "two ranks": (lora(**{"lora_A.weight": torch.ones(3, 32)}), "has rank 2 in one half and 3 in the other"),
    "one half": (lora(**{"lora_A.weight": None}), "by up alone, which is no LoRA"),
    "another shape": (
        lora(**{"lora_A.weight": torch.ones(2, 31)}),
        r"of shape \[32, 31\] where this model has \[32, 32\]",
    ),
    "NaN": (
        lora(**{"lora_A.weight": torch.full((2, 32), torch.nan)}),
        "lora_A.weight in .* has values that are not finite numbers",
    ),
    "inf": (
        lora(**{"lora_B.weight": torch.full((32, 2), torch.inf)}),
        "lora_B.weight in .* has values that are not finite numbers",
    ),
    "alpha NaN": (
        lora(alpha=torch.tensor(torch.nan)),
        r"alpha in .* is \[\] torch.float32 where one number is needed",
    ),
    "alpha inf": (lora(alpha=torch.tensor(torch.inf)), "where one number is needed"),
    "two alphas": (
        lora(alpha=torch.ones(2)),
        r"alpha in .* is \[2\] torch.float32 where one number is needed",
    ),
    "no alpha": (lora(alpha=torch.ones(0)), r"alpha in .* is \[0\] torch.float32 where one number is needed"),
    "a truth for alpha": (
        lora(alpha=torch.tensor(True)),
        r"alpha in .* is \[\] torch.bool where one number is needed",
    ),
    "DoRA": (
        lora(dora_scale=torch.ones(32)),
        r"is no plain LoRA \(.*dora_scale\): only ComfyUI can apply it",
    ),
    "of another model": (
        {"lora_transformer_a.lora_up.weight": torch.ones(2, 2)},
        "changes none of the layers of this model",
    ),
    "control characters": (
        {"\x1b[31m\n.dora_scale": torch.ones(1)},
        r"is no plain LoRA \(\?\[31m\?.dora_scale\)",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_lora_for_this_model(kind, model, tmp_path):
    tensors, said = BAD[kind]
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=said) as error:
        read_lora(tmp_path / "lora.safetensors", model.diffuser)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -float("inf"), 1e38, 1e300])
def test_strengths_that_make_no_weights(strength, model, tmp_path):
    diffuser = copy.deepcopy(model.diffuser)
    save_file(lora(**{"lora_A.weight": torch.full((2, 32), 100.0)}), tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="strength"):
        apply_lora(VersatileDiffusion(model.config, diffuser), tmp_path / "lora.safetensors", strength)
    assert all(
        torch.equal(value, model.diffuser.state_dict()[key]) for key, value in diffuser.state_dict().items()
    )


def test_a_huge_alpha_makes_no_weights(model, tmp_path):
    save_file(lora(alpha=torch.tensor(3e38)), tmp_path / "lora.safetensors")
    (change,) = read_lora(tmp_path / "lora.safetensors", model.diffuser).values()
    with pytest.raises(
        ValueError, match="makes weights that are not finite numbers: choose a smaller strength"
    ):
        merge_change(torch.ones(32, 32), change, 2.0)


def test_the_text_encoder_is_changed_too(model, tmp_path):
    changed = VersatileDiffusion(model.config, copy.deepcopy(model.diffuser), copy.deepcopy(model.clip))
    save_file(values("diffusers"), tmp_path / "lora.safetensors")
    assert apply_lora(changed, tmp_path / "lora.safetensors", 0.1) == 95
    before, after = model.clip.text_tower.state_dict(), changed.clip.text_tower.state_dict()
    differing = [key for key, tensor in after.items() if not torch.equal(tensor, before[key])]
    assert len(differing) == 12 and all(key.endswith("weight") for key in differing)
