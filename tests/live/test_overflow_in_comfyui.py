"""Values that are too large for their type, under core's samplers: the layer is named, where a black picture would come out."""

import pytest
from assets import write_assets
from graph import APPLE, ROCKET, empty, empty_text, image_model, ksampler, node, picture, prompt_of, sentence, text_model
from safetensors import safe_open
from safetensors.torch import save_file

from vd_core.embedded import MODEL

pytestmark = pytest.mark.comfyui

NAME = "overflowing.safetensors"


@pytest.fixture(scope="module")
def overflowing(server):
    """The embedded model with weights of its context layers that are far too large, as a file of the server."""
    write_assets(server.base / "models", server.base / "input")
    with safe_open(MODEL, "pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dict
    last = max(key for key in tensors if key.startswith("diffuser.context.text.") and key.endswith(".proj_out.weight"))
    for key in (last, last.replace("context.text", "context.image")):
        tensors[key] = tensors[key].float() * 1e38
    path = server.base / "models" / "versatile_diffusion" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, header)
    yield NAME
    path.unlink()


def model_of(loaded, name):
    """The same loader with that file and weights as they are in it."""
    return node(loaded.class_type, **{**loaded.inputs, "model": name, "weight_dtype": "fp32"})


@pytest.mark.parametrize("context", ["text", "image"])
@pytest.mark.parametrize("way", ["KSampler", "VD_Sampler"])
def test_the_layer_is_named_under_every_sampler(server, overflowing, way, context):
    model, given = model_of(image_model(), overflowing), {"text": APPLE, "image": ROCKET}[context]
    latent = ksampler(model, given, empty(), steps=2)
    if way == "VD_Sampler":
        inputs = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler": "ddim", "eta": 0.3, "fidelity": 0.0, "noise": "per sample"}
        latent = node("VD_Sampler", model=model, positive=given[0], negative=given[1], latent_image=empty(), **inputs)
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
    server.queue(prompt, lambda event: seen.append(event["data"]["value"]) if event["type"] == "progress" else None)
    assert seen[-3:] == [1, 2, 3] and seen.count(3) == 1
