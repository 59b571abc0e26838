"""CLIP and CLIP_VISION from elsewhere: users' own files through ComfyUI's loaders, and those that are
refused."""

from __future__ import annotations

import json

import pytest
import torch
from assets import write_assets
from graph import CLIP, CLIP_VISION, PICTURE, node, prompt_of
from PIL import Image
from safetensors.torch import save_file

from vd_core.checkpoints.load import load
from vd_core.config import ClipConfig
from vd_core.embedded import MODEL
from vd_core.encoders.clip import Clip
from vd_core.pictures import from_pil
from vd_core.ranking import similarity

pytestmark = pytest.mark.comfyui

NAME = "clip-l.safetensors"


@pytest.fixture(scope="module")
def clip_file(server):
    """CLIP ViT-L/14's text tower with random weights, named as Hugging Face names them, where users keep
    it."""
    write_assets(server.base / "models", server.base / "input")
    torch.manual_seed(0)
    tower = Clip(ClipConfig(), towers=["text"]).text_tower
    path = server.base / "models" / "text_encoders" / NAME
    path.parent.mkdir(exist_ok=True)
    save_file({key: tensor.half().contiguous() for key, tensor in tower.state_dict().items()}, path)
    yield path
    path.unlink()


def test_a_clip_of_comfyui_gives_the_same_contexts(server, clip_file):
    loaders = node("CLIPLoader", clip_name=NAME, type="stable_diffusion"), node("VD_LoadClip", model=NAME)
    contexts = [node("VD_TextContext", clip=loader, text="red apple", negative_text="") for loader in loaders]
    result = server.queue(
        prompt_of(*(node("VDLive_Tokens", conditioning=context[0]) for context in contexts))
    )
    assert result.status == "success", result.sentence
    stock, own = (torch.tensor(json.loads(text)) for text in result.texts)
    with torch.inference_mode():
        expected = load(clip_file, parts=["clip_text"]).clip.encode_text(["red apple"])
    assert torch.equal(stock, own) and stock.shape == (1, 77, 768)
    torch.testing.assert_close(stock, expected, atol=2e-3, rtol=0)


def test_scores_of_texts_are_those_of_vd_core(server, clip_file):
    texts = ["strawberry, 3d style", "rocket, flat style"]  # in the order of their scores
    ranked = node(
        "VD_RankTexts",
        clip=CLIP,
        clip_vision=CLIP_VISION,
        image=PICTURE,
        texts="\n".join(reversed(texts)),
        best=0,
    )
    prompt = prompt_of(node("PreviewAny", source=ranked[3]))
    result = server.queue(prompt)
    assert result.status == "success", result.sentence
    scores = torch.tensor([float(text) for text in result.outputs[str(len(prompt))]["text"]])
    with torch.inference_mode(), Image.open(server.base / "input" / "strawberry.png") as picture:
        clip = load(MODEL, parts=["clip_text", "clip_vision"]).clip
        expected = similarity(
            clip.encode_image(from_pil([picture.convert("RGB")]))[:, 0], clip.embed_text(texts)
        )[0]
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("projection", ["identity", "zeros", "garbage"])
def test_a_clip_without_projection_is_refused(server, projection):
    context = node(
        "VD_TextContext",
        clip=node("VDLive_StrangeClip", projection=projection)[0],
        text="red apple",
        negative_text="",
    )
    result = server.queue(prompt_of(node("VDLive_Tokens", conditioning=context[0])))
    assert (
        "has no text projection, as those in Stable Diffusion checkpoints; use Load CLIP (VD)"
        in result.sentence
    )


def test_another_vision_model_is_refused(server, clip_file):
    vision = node("VDLive_StrangeClip", projection="zeros")[1]
    inputs = {"focus": 0.5, "weight": 1.0, "unconditional": "zeros"}
    context = node("VD_ImageContext", clip_vision=vision, image=PICTURE, **inputs)
    result = server.queue(prompt_of(node("VDLive_Tokens", conditioning=context[0])))
    assert (
        "not the vision model that Versatile Diffusion looks at pictures with; use Load CLIP Vision (VD)"
        in result.sentence
    )
