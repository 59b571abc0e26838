"""SeeCoder's network.

It takes any size, keeps images apart and draws nothing; every weight is in a leaf of the given namespace.
"""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rounding import assert_rounded
from torch import nn

from seecoder.config import DecoderConfig, QueryConfig, SeeCoderConfig, SwinConfig
from seecoder.decoder import Decoder
from seecoder.model import SeeCoder
from seecoder.positions import position_features
from seecoder.query_transformer import QueryTransformer
from seecoder.sizes import read_query_config
from seecoder.swin import Swin, pad_to_multiple, relative_positions, shift_mask

MANIFEST = Path(__file__).resolve().parents[1] / "golden" / "manifests" / "pfd_official.json.gz"


def made(position_aware: bool = False) -> SeeCoder:
    torch.manual_seed(0)
    model = SeeCoder(SeeCoderConfig.tiny(position_aware)).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # norms start as identities and biases small, which hides a forgotten one
            parameter.add_(0.2 * torch.randn_like(parameter))
        elif "relative_position_bias" not in name:
            parameter.mul_(1.5)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "position aware"])
def model(request):
    return made(request.param)


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (1, 40), (40, 1), (1, 1), (130, 67)])
def test_any_size(model, size):
    tokens = model(picture(1, 3, *size))
    assert tokens.shape == (1, 148, 64) and tokens.isfinite().all()


def test_levels_have_strides_4_to_32_rounded_up(model):
    levels = model.imencoder(picture(1, 3, 130, 200))
    assert {name: tuple(x.shape[1:]) for name, x in levels.items()} == {
        "res2": (8, 33, 50),
        "res3": (16, 17, 25),
        "res4": (32, 9, 13),
        "res5": (64, 5, 7),
    }
    # GroupNorm behind it is ten times less accurate on maps whose channels come last.
    assert all(x.is_contiguous() for x in levels.values())


def test_two_calls_are_equal_to_the_bit(model):
    image = picture(1, 3, 50, 70)
    assert torch.equal(model(image), model(image))


def test_each_image_of_a_batch_equals_its_lone_encode(model):
    images = picture(3, 3, 40, 56)
    alone = torch.cat([model(image[None]) for image in images])
    assert_rounded(model(images), alone)
    assert (alone[0] - alone[1]).abs().max() > 0.05  # they are different images to it


def test_training_mode_changes_nothing(model):
    image = picture(1, 3, 40, 40)
    expected = model(image)
    assert not model.training
    model.train()
    try:
        assert torch.equal(model(image), expected)
    finally:
        model.eval()


def test_global_tokens_come_first_and_do_not_read_the_maps_themselves():
    torch.manual_seed(0)
    config = SeeCoderConfig.tiny()
    model = made()
    for layer in model.qtransformer.transformer_selfatt_layers:
        layer.self_attn.out_proj.weight.zero_()
    first, second = (model(picture(1, 3, side, side)) for side in (40, 48))
    count = config.queries.global_queries
    assert torch.equal(first[:, :count], second[:, :count]) and not torch.allclose(
        first[:, count:], second[:, count:], atol=1e-2
    )


def test_only_position_aware_ones_know_where_things_are():
    """A map mirrored before the query transformer, whose attention has no order of its own."""
    for aware in (False, True):
        model = made(aware)
        maps = [
            torch.randn(1, 64, side, side, generator=torch.Generator().manual_seed(side))
            for side in (8, 4, 2)
        ]
        same = torch.allclose(
            model.qtransformer(maps), model.qtransformer([x.flip(3) for x in maps]), atol=1e-4
        )
        assert same is not aware


def test_positions_count_from_the_middle_in_the_shorter_side():
    features = position_features(3, 5, 20, torch.device("cpu")).reshape(3, 5, 4, 20)
    assert torch.equal(features[1, 2], torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None].expand(4, 20))
    angle = torch.tensor(2 * torch.pi / 3)  # one cell is a third of a turn at the lowest frequency
    assert torch.allclose(
        features[2, 4, :, 0],
        torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()]),
        atol=1e-6,
    )
    assert torch.allclose(features[2, 2, 0, -1], (1.5 * angle).sin(), atol=1e-6)


def test_every_weight_lies_in_a_leaf_of_the_namespace():
    """As a host's memory management needs it."""
    names = ("Linear", "Conv2d", "GroupNorm", "LayerNorm", "Embedding")
    ops = SimpleNamespace(**{name: type(name, (getattr(nn, name),), {}) for name in names})
    own = {module for module in vars(ops).values()}
    for aware in (False, True):
        for name, module in SeeCoder(SeeCoderConfig.tiny(aware), ops).named_modules():
            holds = list(module.parameters(recurse=False)) + list(module.buffers(recurse=False))
            assert not holds or type(module) in own and not list(module.children()), name


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_may_be_half_and_images_of_any_precision(model, given):
    half = SeeCoder(model.config)
    half.load_state_dict(model.state_dict())
    tokens = half.to(torch.bfloat16)(picture(1, 3, 40, 56).to(given))
    assert tokens.dtype == torch.bfloat16
    assert (
        torch.nn.functional.cosine_similarity(
            tokens.float().flatten(), model(picture(1, 3, 40, 56)).flatten(), dim=0
        )
        > 0.99
    )


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 1, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8)])
def test_other_shapes_are_refused_in_words(model, shape):
    with pytest.raises(ValueError, match=r"SeeCoder reads RGB images \[batch, 3, height, width\], got"):
        model(torch.zeros(shape))


def test_sizes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="reads the levels .*res3.*384.* but its backbone has"):
        SeeCoderConfig(swin=SwinConfig(width=96))
    with pytest.raises(ValueError, match="reads 3 levels of width 512, but its decoder has 3 of width 768"):
        SeeCoderConfig(queries=QueryConfig(inputs=512))
    with pytest.raises(ValueError, match="width 768 one of its 7 heads"):
        SeeCoderConfig(queries=QueryConfig(heads=7))


def test_parameter_counts_of_the_released_models():
    """Those of the official models but for the decoder's queries and keys, which have no effect and are not
    kept.
    """
    unused = 2 * 6 * (768 * 768 + 768)
    for frequencies, total in ((0, 294_114_996), (20, 295_358_388)):
        with torch.device("meta"):
            model = SeeCoder(SeeCoderConfig(queries=QueryConfig(frequencies=frequencies)))
        assert sum(parameter.numel() for parameter in model.parameters()) == total - unused
    assert unused == 7_087_104
    assert sum(parameter.numel() for parameter in model.imencoder.parameters()) == 195_201_204
    assert (
        sum(parameter.numel() for parameter in Decoder(DecoderConfig()).parameters()) == 27_783_168 - unused
    )


def test_the_indices_of_relative_positions_are_the_released_ones():
    """Their buffers are left out of our model; the largest index is the last row of the table."""
    index = relative_positions(12, torch.device("cpu"))
    files = json.loads(gzip.decompress(MANIFEST.read_bytes()))["pfd/seecoder/seecoder-v1-0.safetensors"]
    assert list(index.shape) == files["ctx.image.imencoder.layers.0.blocks.0.attn.relative_position_index"]
    assert (
        index[0, 0] == 264
        and index[0, 143] == 0
        and index[143, 0] == 528
        and index[1, 0] == 265
        and index[12, 0] == 264 + 23
    )


def test_masks_part_what_the_shift_brought_together():
    mask = shift_mask(8, 8, 4, torch.device("cpu"))
    assert mask.shape == (4, 16, 16) and not mask[0].any()
    assert mask[1, 0, 2] == -100 and mask[1, 0, 1] == 0 and mask[2, 0, 8] == -100 and mask[2, 0, 4] == 0
    # A single window is shifted and masked too.
    assert shift_mask(4, 4, 4, torch.device("cpu"))[0, 0, 2] == -100


def test_equal_to_timm_where_no_padding_is_needed():
    """timm's Swin is exact for sizes whose every level is a multiple of the window and larger; its features
    are not normed.
    """
    swin_transformer = pytest.importorskip("timm.models.swin_transformer")
    config = SwinConfig(width=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4)
    theirs = swin_transformer.SwinTransformer(
        img_size=(256, 512),
        embed_dim=config.width,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window,
    ).eval()
    torch.manual_seed(0)
    weights = {}
    for key, tensor in theirs.state_dict().items():
        if (
            tensor.is_floating_point()
            and not key.startswith(("norm.", "head."))
            and not key.endswith("attn_mask")
        ):
            tensor.copy_(
                torch.randn_like(tensor) * 0.1 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
            )
            stage = key.split(".")[1]
            key = (
                key.replace(f"layers.{stage}.downsample", f"layers.{int(stage or 0) - 1}.downsample")
                if "downsample" in key
                else key
            )
            weights[key.replace("relative_position_bias_table", "relative_position_bias.weight")] = tensor
    ours = Swin(config)
    norms = {key: tensor for key, tensor in ours.state_dict().items() if key.split(".")[2:3] == ["norm"]}
    ours.load_state_dict(weights | norms)
    images = picture(2, 3, 256, 512)
    with torch.inference_mode():
        levels = ours(images)
        x = theirs.patch_embed(images)
        for stage, name, own in zip(theirs.layers, levels, ours.layers, strict=True):
            x = stage(x)
            assert torch.allclose(own.norm(x).permute(0, 3, 1, 2), levels[name], atol=1e-5), name


def test_padding_is_at_the_bottom_and_at_the_right():
    padded = pad_to_multiple(torch.ones(1, 3, 5, 2), 4)
    assert (
        padded.shape == (1, 4, 8, 2)
        and padded[:, :3, :5].all()
        and not padded[:, 3:].any()
        and not padded[:, :, 5:].any()
    )


def test_pictures_that_are_no_numbers_are_refused():
    model, images = SeeCoder(SeeCoderConfig.tiny()), torch.rand(1, 3, 32, 32)
    images[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="SeeCoder reads RGB images of finite numbers"):
        model(images)


@pytest.mark.parametrize(
    "images, sentence",
    [
        (torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), r"got torch.uint8: use images.float\(\) / 255"),
        (torch.full((1, 3, 8, 8), 255.0), "in 0..1, got 255 to 255: divide by 255"),
        (torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8), r"got -1 to 1: use \(images \+ 1\) / 2"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "These images are on the meta device"),
        ([[0.0]], r"as a tensor \[batch, 3, height, width\], got list"),
    ],
)
def test_pictures_that_are_not_in_0_to_1_are_refused(images, sentence):
    with pytest.raises(ValueError, match=sentence):
        SeeCoder(SeeCoderConfig.tiny())(images)


def test_a_seecoder_without_values_is_refused():
    with pytest.raises(ValueError, match="This SeeCoder is on the meta device"):
        SeeCoder(SeeCoderConfig.tiny()).to("meta")(torch.zeros(1, 3, 8, 8))


def test_maps_of_the_tokens_width_can_be_projected_too():
    """The official switch `enforce_input_project`."""
    config = QueryConfig(inputs=64, width=64, layers=2, mlp_width=32, project_inputs=True)
    transformer = QueryTransformer(config)
    shapes = {f"qtransformer.{key}": tuple(tensor.shape) for key, tensor in transformer.state_dict().items()}
    assert shapes["qtransformer.input_proj.0.weight"] == (64, 64, 1, 1)
    released = {key.replace("v_proj.", "in_proj_"): shape for key, shape in shapes.items()}
    assert read_query_config(released) == config
