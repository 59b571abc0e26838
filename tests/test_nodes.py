"""The node classes: pinned contracts, and what each does on a tiny model with random weights."""

import pytest
import torch

from run_workflow import load_pack
from vd_core.checkpoints.write import save_model

PINNED = {
    "VD_Load": (["model"], ["MODEL", "MODEL", "CLIP", "CLIP_VISION", "VAE", "VD_TEXT_VAE"]),
    "VD_TextContext": (["clip", "text", "negative_text"], ["CONDITIONING", "CONDITIONING"]),
    "VD_ImageContext": (["clip_vision", "image", "focus", "weight", "unconditional", "mask"], ["CONDITIONING", "CONDITIONING"]),
    "VD_Blend": (["positive_1", "negative_1", "positive_2", "negative_2", "ratio"], ["CONDITIONING", "CONDITIONING"]),
    "VD_Sampler": (
        ["model", "positive", "negative", "latent_image", "seed", "steps", "cfg", "sampler", "eta", "fidelity", "noise"],
        ["LATENT"],
    ),
    "VD_EmptyTextLatent": (["text_vae", "batch_size"], ["LATENT"]),
    "VD_TextEncode": (["text_vae", "text"], ["LATENT"]),
    "VD_TextDecode": (["text_vae", "samples", "seed", "temperature", "top_k", "top_p", "remove_duplicates"], ["STRING", "STRING"]),
    "VD_ColorAdjust": (["image", "reference"], ["IMAGE"]),
}


@pytest.fixture(scope="module")
def pack():
    """The pack, imported as ComfyUI imports it."""
    return load_pack(name="versatile_diffusion_under_test")


@pytest.fixture(scope="module")
def nodes(pack):
    """Every node as a function of its inputs; defaults are filled in."""

    def caller(cls):
        def call(**inputs):
            schema = cls.INPUT_TYPES()["required"]
            defaults = {name: spec[1]["default"] for name, spec in schema.items() if len(spec) > 1 and "default" in spec[1]}
            with torch.inference_mode():
                return cls().execute(**{**defaults, **inputs})

        return call

    return {name: caller(cls) for name, cls in pack.NODE_CLASS_MAPPINGS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model, vocabularies):
    """A models folder with the tiny model."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "tiny.safetensors", model, vocabularies)
    return folder


@pytest.fixture
def loaded(nodes, folder, monkeypatch):
    """The outputs of the loader, by name."""
    monkeypatch.setenv("VD_MODELS", str(folder))
    return dict(
        zip(
            ("image_model", "text_model", "clip", "clip_vision", "vae", "text_vae"), nodes["VD_Load"](model="tiny.safetensors"), strict=True
        )
    )


PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
EMPTY = {"samples": torch.zeros(2, 4, 8, 8)}


def text(nodes, loaded, prompt="red apple"):
    return nodes["VD_TextContext"](clip=loaded["clip"], text=prompt, negative_text="")


def picture(nodes, loaded, **inputs):
    return nodes["VD_ImageContext"](clip_vision=loaded["clip_vision"], image=PICTURE, **inputs)


def draw(nodes, loaded, contexts, latent=EMPTY, model="image_model", **inputs):
    inputs = {"steps": 2, "seed": 3, **inputs}
    return nodes["VD_Sampler"](model=loaded[model], positive=contexts[0], negative=contexts[1], latent_image=latent, **inputs)[0]["samples"]


def test_ids_inputs_and_their_order_are_frozen(pack):
    found = {}
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        schema = cls.INPUT_TYPES()
        found[name] = ([key for section in ("required", "optional") for key in schema.get(section, {})], list(cls.RETURN_TYPES))
    assert found == PINNED


def test_every_node_explains_itself(pack):
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()
    for cls in pack.NODE_CLASS_MAPPINGS.values():
        assert cls.DESCRIPTION and cls.SEARCH_ALIASES and cls.CATEGORY.startswith("VersatileDiffusion")
        assert len(cls.OUTPUT_TOOLTIPS) == len(cls.RETURN_TYPES)
        schema = cls.INPUT_TYPES()
        assert all(spec[1]["tooltip"] for section in schema.values() for spec in section.values())


def test_only_wired_parts_are_read(nodes, loaded):
    contexts = picture(nodes, loaded)
    draw(nodes, loaded, contexts)
    read = set().union(*loaded["image_model"].file.loaded)
    assert read == {"clip_vision", "diffuser.data.image", "diffuser.context.image"}


def test_layout_holds_kinds_tokens_and_ratios(nodes, loaded):
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    once = nodes["VD_Blend"](positive_1=words[0], negative_1=words[1], positive_2=seen[0], negative_2=seen[1], ratio=0.25)
    twice = nodes["VD_Blend"](positive_1=once[0], negative_1=once[1], positive_2=words[0], negative_2=words[1], ratio=0.5)
    layout = twice[0][0][1]["vd_layout"]
    assert [kind for kind, _, _ in layout] == ["text", "image", "text"]
    assert [ratio for _, _, ratio in layout] == [0.375, 0.125, 0.5]
    assert twice[0][0][0].shape[1] == sum(count for _, count, _ in layout) == twice[1][0][0].shape[1]


def test_blend_with_ratio_0_and_1_is_one_side_alone(nodes, loaded):
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    for ratio, alone in ((0.0, words), (1.0, seen)):
        blended = nodes["VD_Blend"](positive_1=words[0], negative_1=words[1], positive_2=seen[0], negative_2=seen[1], ratio=ratio)
        assert torch.equal(draw(nodes, loaded, blended), draw(nodes, loaded, alone))


def test_sampler_repeats_itself_and_batch_size_changes_no_sample(nodes, loaded):
    contexts = text(nodes, loaded)
    two = draw(nodes, loaded, contexts, eta=0.5)
    one = draw(nodes, loaded, contexts, {"samples": torch.zeros(1, 4, 8, 8)}, eta=0.5)
    assert torch.equal(two, draw(nodes, loaded, contexts, eta=0.5))
    assert torch.allclose(two[:1], one, atol=1e-4)
    assert not torch.allclose(two[0], two[1])
    assert not torch.equal(two, draw(nodes, loaded, contexts, eta=0.5, noise="official"))


def test_official_noise_is_that_of_the_official_seed(nodes, loaded, model):
    from vd_core.sampling.noise import batch_noise

    ours = draw(nodes, loaded, text(nodes, loaded), seed=20, noise="official", steps=3)
    official = model.sample("image", [model.encode_text(["red apple"])], EMPTY["samples"], batch_noise(120), steps=3)
    assert torch.allclose(ours, official, atol=1e-5)


def test_fidelity_1_returns_the_latent(nodes, loaded):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    assert torch.equal(draw(nodes, loaded, text(nodes, loaded), latent, fidelity=1.0), latent["samples"])


def test_text_flow_from_picture_to_sentences(nodes, loaded):
    empty = nodes["VD_EmptyTextLatent"](text_vae=loaded["text_vae"], batch_size=3)[0]
    latents = draw(nodes, loaded, picture(nodes, loaded, unconditional="black"), empty, model="text_model")
    assert latents.shape == empty["samples"].shape
    shown = nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples={"samples": latents}, seed=5)
    joined, sentences = shown["result"]
    assert len(sentences) == 3 and joined == "\n".join(sentences) and shown["ui"]["text"] == sentences
    alone = nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples={"samples": latents[:1]}, seed=5)["result"][1]
    assert alone == sentences[:1]


def test_text_encode_takes_one_sentence_per_line(nodes, loaded):
    latent = nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text="red apple, noto style\n\n two dogs \n")[0]["samples"]
    assert latent.shape == (2, 24, 1, 1)


def test_painted_mask_removes(nodes, loaded):
    painted = picture(nodes, loaded, mask=torch.ones(1, 64, 64))[0][0][0]
    assert painted.count_nonzero() == 0
    kept = picture(nodes, loaded, mask=torch.zeros(1, 64, 64))[0][0][0]
    assert torch.allclose(kept, picture(nodes, loaded)[0][0][0], atol=1e-6)


def test_weight_scales_only_the_positive_tokens(nodes, loaded):
    whole, half = (picture(nodes, loaded, unconditional="grey", weight=weight) for weight in (1.0, 0.5))
    assert torch.allclose(half[0][0][0], whole[0][0][0] / 2)
    assert torch.equal(half[1][0][0], whole[1][0][0])


def test_match_colours(nodes):
    adjusted = nodes["VD_ColorAdjust"](image=PICTURE, reference=PICTURE * 0.5)[0]
    assert torch.allclose(adjusted.mean(dim=(1, 2)), PICTURE.mean(dim=(1, 2)) / 2, atol=1e-3)


def refusals(nodes, loaded):
    """(what is done, what the sentence says)."""
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    text_latent = {"samples": torch.zeros(1, 24, 1, 1)}
    stock = [[torch.zeros(1, 77, 40), {}]]
    yield lambda: draw(nodes, loaded, words, steps=-1), "number of steps lies between 1 and 1000, got -1"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.zeros(1, 4, 7, 8)}), "must be divisible by 2, got [7, 8]"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.zeros(0, 4, 8, 8)}), "empty batch"
    yield lambda: draw(nodes, loaded, words, text_latent), "the image model needs an Empty Latent Image"
    yield lambda: draw(nodes, loaded, words, EMPTY, model="text_model"), "the text model needs an Empty Text Latent"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.ones(1, 16, 8, 8)}), "16 channels where the image model has 4"
    yield lambda: draw(nodes, loaded, (words[0], seen[1])), "same context or Blend node"
    yield lambda: draw(nodes, loaded, (stock, stock)), "positive must come from one of the context nodes"
    yield lambda: draw(nodes, loaded, words, sampler="lms"), "sampler is one of ddim"
    yield lambda: draw(nodes, loaded, words, fidelity=1.5), "Fidelity lies between 0 and 1"
    yield lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=EMPTY), "decode pictures with VAE Decode"
    yield lambda: nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text=" \n "), "no text to encode"
    yield lambda: loaded["vae"].encode(torch.zeros(1, 63, 64, 3)), "Image sides must be divisible by 8, got 63x64"
    yield lambda: picture(nodes, loaded, unconditional="white"), "unconditional image is one of zeros, black, grey"
    yield lambda: nodes["VD_Load"](model="nothing.pth"), "There is no nothing.pth in"


def test_what_cannot_work_is_refused_with_a_sentence(nodes, loaded):
    for action, sentence in refusals(nodes, loaded):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            action()
        assert sentence in str(error.value), str(error.value)


def test_long_prompt_is_cut_with_a_warning_that_says_where(nodes, loaded, caplog):
    text(nodes, loaded, "red " * 100 + "apple")
    assert "77" in caplog.text or "75" in caplog.text
