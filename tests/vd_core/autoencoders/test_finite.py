"""Autoencoders that make numbers that are not finite: a sentence that names the part, where a black picture
or no text would come out."""

import copy

import pytest
import torch

from runner.core_nodes import CORE_NODES

NAN = float("nan")


@pytest.fixture
def vae(model):
    return copy.deepcopy(model.image_vae)


@pytest.fixture
def optimus(model):
    return copy.deepcopy(model.text_vae)


def poison(module, key, value):
    """One weight of a model that is loaded already."""
    module.state_dict(keep_vars=True)[key].data.view(-1)[0] = value


@pytest.mark.parametrize("value", [NAN, float("inf"), 3e38])
@pytest.mark.parametrize(
    ("layer", "part"),
    [
        ("encoder.conv_in", "encoder"),
        ("quant_conv", "encoder's last layer"),
        ("post_quant_conv", "decoder's first layer"),
        ("decoder.conv_out", "decoder"),
    ],
)
def test_the_part_of_the_image_autoencoder_is_named(vae, layer, part, value):
    vae.get_submodule(layer).weight.data.fill_(value)
    vae.get_submodule(layer).bias.data.fill_(value)
    vae.encoder.conv_out.bias.data.fill_(10)  # what meets the large weights behind it does not cancel out
    with pytest.raises(
        ValueError, match=f"The image autoencoder's {part} gave (NaN|inf) in float32: its weights are damaged"
    ):
        if part.startswith("encoder"):
            vae.encode(torch.rand(1, 3, 16, 16) + 0.5)
        else:
            vae.decode(torch.rand(1, 4, 2, 2) + 0.5)


def test_pictures_and_latents_that_are_not_finite_are_no_weights_fault(vae):
    with pytest.raises(ValueError, match="A picture or a mask holds values that are not finite"):
        vae.encode(torch.full((1, 3, 16, 16), NAN))
    with pytest.raises(ValueError, match="decoder's first layer got numbers that are not finite"):
        vae.decode(torch.full((1, 4, 2, 2), float("inf")))


def test_half_precision_is_told_what_to_do(vae):
    vae.decoder.conv_out.bias.data.fill_(6e4)
    vae.decoder.conv_out.weight.data.fill_(3e4)
    latents = torch.randn(1, 4, 2, 2)
    assert vae.decode(latents).isfinite().all()
    with pytest.raises(ValueError, match="decoder gave inf in float16: compute it in a larger type"):
        vae.half().decode(latents.half())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_autoencoder_too(optimus, temperature):
    width = optimus.config.latent_width
    with pytest.raises(ValueError, match="The text autoencoder's decoder got numbers that are not finite"):
        optimus.decode(torch.full((1, width), NAN), [torch.Generator()], temperature)
    poison(optimus, "decoder.wte.weight", NAN)
    poison(optimus, "encoder_linear.weight", NAN)
    with pytest.raises(
        ValueError, match="The text autoencoder's decoder gave NaN in float32: its weights are damaged"
    ):
        optimus.decode(torch.zeros(1, width), [torch.Generator()], temperature)
    with pytest.raises(ValueError, match="The text autoencoder's encoder gave NaN in float32"):
        optimus.encode(["red apple"])


def test_the_nodes_say_it(loaded, pack):
    decode = CORE_NODES["VAEDecode"]
    vae = copy.deepcopy(loaded["vae"])
    poison(vae.autoencoder, "decoder.conv_out.bias", NAN)
    with pytest.raises(ValueError, match="decoder gave NaN"):
        decode().execute({"samples": torch.zeros(1, 4, 2, 2)}, vae)
