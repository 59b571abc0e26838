"""SeeCoder on the real server: on the embedded Versatile Diffusion, and on models of Stable Diffusion 1's
architecture."""

from __future__ import annotations

import json

import pytest
import torch
from assets import write_assets
from graph import OTHER_PICTURE, PICTURE, empty, image_model, ksampler, node, picture, prompt_of
from safetensors.torch import save_file

from seecoder.checkpoints import collect_released_state
from seecoder.config import DecoderConfig, QueryConfig, SeeCoderConfig, SwinConfig
from seecoder.model import SeeCoder

pytestmark = pytest.mark.comfyui

STOCK_WIDTH = 32  # of the contexts of VDLive_StockModel
SIZES = SeeCoderConfig(
    SwinConfig(width=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4),
    DecoderConfig({"res3": 16, "res4": 32, "res5": 64}, width=64, layers=2, mlp_width=48),
    QueryConfig(inputs=64, width=STOCK_WIDTH, layers=3, mlp_width=64),
)
PAIR = node("ImageBatch", image1=PICTURE, image2=OTHER_PICTURE)


@pytest.fixture(scope="module", autouse=True)
def files(server):
    """Input pictures, and a SeeCoder with random weights for that model, named and keyed as released ones
    are."""
    write_assets(server.base / "models", server.base / "input")
    (server.base / "models" / "seecoder").mkdir(exist_ok=True)
    torch.manual_seed(0)
    save_file(
        collect_released_state(SeeCoder(SIZES)),
        server.base / "models" / "seecoder" / "seecoder-tiny.safetensors",
    )


def encode(image, seecoder: str = "seecoder-tiny.safetensors", **inputs):
    """Outputs positive, negative."""
    defaults = {
        "global_weight": 1.0,
        "local_weight": 1.0,
        "strength": 1.0,
        "longest_side": 1536,
        "crop": False,
    }
    return node(
        "SeeCoder_Encode",
        seecoder=node("SeeCoder_Load", model=seecoder),
        image=image,
        **{**defaults, **inputs},
    )


def tokens(server, *contexts) -> list[torch.Tensor]:
    """The positive tokens of each."""
    result = server.queue(
        prompt_of(*(node("VDLive_Tokens", conditioning=context[0]) for context in contexts))
    )
    assert result.status == "success", result.sentence
    # in the order of the contexts
    texts = [ui["text"][0] for _, ui in sorted(result.outputs.items(), key=lambda item: int(item[0]))]
    return [torch.tensor(json.loads(text)) for text in texts]


def test_each_picture_of_a_batch_is_encoded_as_if_alone(server):
    both, first, second = tokens(server, encode(PAIR), encode(PICTURE), encode(OTHER_PICTURE))
    assert both.shape == (2, 148, STOCK_WIDTH)
    assert torch.equal(both, torch.cat([first, second]))


def test_two_encodes_are_equal(server):
    (one,) = tokens(server, encode(PICTURE))
    server.client.post("/free", {"unload_models": True, "free_memory": True})
    assert torch.equal(one, tokens(server, encode(PICTURE))[0])


@pytest.mark.parametrize("width, height", [(64, 64), (1536, 1024), (1, 200), (333, 71)])
def test_any_size_is_encoded(server, width, height):
    image = node(
        "ImageScale", image=PICTURE, upscale_method="bilinear", width=width, height=height, crop="disabled"
    )
    (seen,) = tokens(server, encode(image))
    assert seen.shape == (1, 148, STOCK_WIDTH) and seen.isfinite().all()


@pytest.mark.parametrize("stock", [True, False])
def test_positive_and_negative_are_one_call_per_step(server, stock):
    model = node("VDLive_StockModel") if stock else image_model("text")[0]
    counted = node("VDLive_CountCalls", model=model)
    context = encode(PAIR, "seecoder-tiny.safetensors" if stock else "embedded", model=model)
    latent = ksampler(counted[0], context, empty(2), steps=4, sampler_name="euler")
    result = server.queue(prompt_of(node("VDLive_ShowCalls", calls=counted[1], after=latent)))
    assert result.status == "success", result.sentence
    assert json.loads(result.texts[0]) == [4] * 4


def test_a_reference_changes_the_picture_and_a_prompt_joins_in(server):
    model, vae = image_model("text")[0], image_model("text")[1]
    words = node(
        "VD_TextContext",
        clip=node("VD_LoadClip", model="embedded"),
        text="rocket, line style",
        negative_text="",
    )
    one, other = encode(PICTURE, "embedded"), encode(OTHER_PICTURE, "embedded")
    pairs = {
        f"{side}_{number}": context[slot]
        for number, context in ((1, one), (2, words))
        for slot, side in enumerate(("positive", "negative"))
    }
    joined = node("VD_Join", **pairs, mode="concatenate", share=0.5)
    seen = set()
    for context in (one, other, joined):
        result = server.queue(prompt_of(picture(ksampler(model, context, empty()), vae)))
        assert result.status == "success", result.sentence
        (image,) = (image for ui in result.outputs.values() for image in ui["images"])
        seen.add(b"".join(server.client.view(image)))
    assert len(seen) == 3


@pytest.mark.parametrize(
    "seecoder, model, sentence",
    [
        ("seecoder-tiny.safetensors", image_model("text")[0], "tokens are 32 wide, but this model reads 160"),
        ("embedded", node("VDLive_StockModel"), "tokens are 160 wide, but this model reads 32"),
    ],
)
def test_a_model_of_another_width_is_refused_with_a_sentence(server, seecoder, model, sentence):
    result = server.queue(
        prompt_of(
            picture(ksampler(model, encode(PICTURE, seecoder, model=model), empty()), image_model("text")[1])
        )
    )
    assert result.status == "error" and sentence in result.sentence
