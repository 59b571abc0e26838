"""Values that are too large for their type, under core's samplers: the layer is named, where a black picture
would come out."""

import pytest
from assets import write_assets
from graph import (
    APPLE,
    IMAGE,
    PICTURE,
    ROCKET,
    empty,
    empty_text,
    image_model,
    ksampler,
    node,
    picture,
    prompt_of,
    sentence,
    text_model,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vd_core.embedded import MODEL

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def changed(server):
    """The embedded model with tensors scaled, {key: their largest value}, as a file of the server -> its
    name."""
    write_assets(server.base / "models", server.base / "input")
    with safe_open(MODEL, "pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    paths = []

    def scaled(key: str, largest: float) -> Tensor:
        return tensors[key].float() / tensors[key].abs().max() * largest

    def save(name: str, largest: dict[str, float]) -> str:
        paths.append(server.base / "models" / "versatile_diffusion" / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors | {key: scaled(key, value) for key, value in largest.items()}, paths[-1], header)
        return name

    yield save
    for path in paths:
        path.unlink()


def last(kind: str) -> str:
    """The weight of the last context layer's last projection."""
    with safe_open(MODEL, "pt") as file:
        return max(
            key
            for key in file.keys()  # noqa: SIM118  no mapping
            if key.startswith(f"diffuser.context.{kind}.") and key.endswith(".proj_out.weight")
        )


@pytest.fixture(scope="module")
def overflowing(changed):
    """Weights of the context layers that are far too large."""
    return changed("overflowing.safetensors", {last("text"): 3e38, last("image"): 3e38})


def model_of(loaded, name, dtype="fp32"):
    """The same loader with that file and weights of that type."""
    return node(loaded.class_type, **{**loaded.inputs, "model": name, "weight_dtype": dtype})


@pytest.mark.parametrize("context", ["text", "image"])
@pytest.mark.parametrize("way", ["KSampler", "VD_Sampler"])
def test_the_layer_is_named_under_every_sampler(server, overflowing, way, context):
    model, given = model_of(image_model(), overflowing), {"text": APPLE, "image": ROCKET}[context]
    latent = ksampler(model, given, empty(), steps=2)
    if way == "VD_Sampler":
        inputs = {
            "seed": 1,
            "steps": 2,
            "cfg": 2.0,
            "sampler": "ddim",
            "eta": 0.3,
            "fidelity": 0.0,
            "noise": "per sample",
        }
        latent = node(
            "VD_Sampler", model=model, positive=given[0], negative=given[1], latent_image=empty(), **inputs
        )
    result = server.queue(prompt_of(picture(latent, model[1])))
    assert result.status == "error" and result.error["node_type"] == way
    layer = "context layer" if context == "text" else "image context layer"
    assert f"Output block 3's {layer} gave inf in float32: its weights are damaged" in result.sentence


def test_texts_too(server, overflowing):
    latent = ksampler(model_of(text_model(), overflowing), ROCKET, empty_text(1), steps=2)
    result = server.queue(prompt_of(sentence(latent)))
    assert "Output block 3's image context layer gave inf in float32" in result.sentence


def test_a_good_model_is_sampled_once(server):
    prompt, seen = prompt_of(picture(ksampler(image_model(), APPLE, empty(), steps=3, seed=77))), []
    server.queue(
        prompt, lambda event: seen.append(event["data"]["value"]) if event["type"] == "progress" else None
    )
    assert seen[-3:] == [1, 2, 3] and seen.count(3) == 1


@pytest.mark.parametrize(("weights", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_half_precision_is_named_and_a_larger_type_is_the_cure(server, changed, weights, dtype):
    name = changed(f"large_{dtype}.safetensors", {last("text"): 6e4 if dtype == "float16" else 3e38})
    loaded = model_of(image_model(), name, weights)
    half = node("VDLive_ComputeIn", model=loaded[0], vae=loaded[1], dtype=dtype)
    result = server.queue(prompt_of(picture(ksampler(half[0], APPLE, empty(), steps=2))))
    assert result.status == "error" and result.error["node_type"] == "KSampler"
    assert f"Output block 3's context layer gave inf in {dtype}: " in result.sentence
    assert (
        "load the model with weight_dtype bf16 or fp32" if dtype == "float16" else "its weights are damaged"
    ) in result.sentence
    if dtype == "float16":
        cured = model_of(image_model(), name, "bf16")
        half = node("VDLive_ComputeIn", model=cured[0], vae=cured[1], dtype="bfloat16")
        assert (
            server.queue(prompt_of(picture(ksampler(half[0], APPLE, empty(), steps=2)))).status == "success"
        )


VAE_WAYS = {
    "decoder.conv_out.weight": ("VAEDecode", "decoder"),
    "post_quant_conv.weight": ("VAEDecode", "decoder's first layer"),
    "encoder.conv_in.weight": ("VAEEncode", "encoder"),
    "quant_conv.weight": ("VAEEncode", "encoder's last layer"),
}


@pytest.mark.parametrize("key", VAE_WAYS)
def test_the_part_of_the_image_autoencoder_is_named(server, changed, key):
    kind, part = VAE_WAYS[key]
    vae = model_of(image_model(), changed(f"{key}.safetensors", {f"image_vae.{key}": 3e38}))[1]
    latent = node("VAEEncode", pixels=PICTURE, vae=vae if kind == "VAEEncode" else IMAGE[1])
    result = server.queue(prompt_of(picture(latent, vae)))
    assert result.status == "error" and result.error["node_type"] == kind
    assert (
        f"The image autoencoder's {part} gave " in result.sentence
        and " in float32: its weights are damaged" in result.sentence
    )


def test_an_autoencoder_in_half_precision(server, changed):
    loaded = model_of(
        image_model(), changed("large_vae.safetensors", {"image_vae.decoder.conv_out.weight": 6e4})
    )
    half = node("VDLive_ComputeIn", model=loaded[0], vae=loaded[1], dtype="float16")
    result = server.queue(prompt_of(picture(node("VAEEncode", pixels=PICTURE, vae=IMAGE[1]), half[1])))
    assert (
        "The image autoencoder's decoder gave inf in float16: compute it in a larger type (in ComfyUI: "
        "--fp32-vae" in result.sentence
    )
