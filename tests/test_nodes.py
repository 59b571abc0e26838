"""The node classes: pinned contracts, and what each does on a tiny model with random weights."""

import importlib
import inspect
import shutil
from dataclasses import replace

import pytest
import torch

from vd_core.checkpoints.write import save_model

MAX_SEED = 18446744073709551615
SEED = ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True})
SHARE = ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01})
NOTHING = ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01})
WHOLE = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01})
LINES = ("STRING", {"default": "", "multiline": True})
FILES = (["embedded", "tiny.safetensors"], {"default": "embedded"})
OTHER_FILES = (["from the model file", "tiny.safetensors"], {"default": "from the model file"})
KINDS = (["all", "text", "image"], {"default": "all"})
DTYPES = (["default", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2"], {"default": "default", "advanced": True})
PAIRS = {f"{side}_{number}": ("CONDITIONING", {}) for number in (1, 2) for side in ("positive", "negative")}
WEIGHT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.01})
NOISE = (["per sample", "official"], {"default": "per sample"})
PIXELS = ("INT", {"default": 512, "min": 8, "max": 8192, "step": 8})
STEERING = {"start": NOTHING, "end": ("FLOAT", {**NOTHING[1], "default": 1.0}), "gradient": (["fast", "exact"], {"default": "fast"})}
BEST = ("INT", {"default": 0, "min": 0, "max": 4096})
COUNT = ("INT", {"default": 8, "min": 2, "max": 4096})
OPPOSITES = {"positive": "CONDITIONING", "negative": "CONDITIONING"}

# Saved workflows hold ids, input names, the order of the values, output numbers and choices. Never change a line of this table:
# new inputs come last, with a default.
PINNED = {
    "VD_LoadImageModel": (
        {"model": FILES, "vae": OTHER_FILES, "contexts": KINDS, "weight_dtype": DTYPES},
        {"image_model": "MODEL", "vae": "VAE"},
    ),
    "VD_LoadTextModel": (
        {"model": FILES, "text_vae": OTHER_FILES, "contexts": KINDS, "weight_dtype": DTYPES},
        {"text_model": "MODEL", "text_vae": "VD_TEXT_VAE"},
    ),
    "VD_LoadClip": ({"model": FILES}, {"CLIP": "CLIP"}),
    "VD_LoadClipVision": ({"model": FILES}, {"CLIP_VISION": "CLIP_VISION"}),
    "VD_TextContext": ({"clip": ("CLIP", {}), "text": LINES, "negative_text": LINES}, OPPOSITES),
    "VD_ImageContext": (
        {
            "clip_vision": ("CLIP_VISION", {}),
            "image": ("IMAGE", {}),
            "focus": SHARE,
            "weight": WEIGHT,
            "unconditional": (["zeros", "black", "grey"], {"default": "zeros"}),
            "mask": ("MASK", {}),
            "tokens": (["all", "patches", "style"], {"default": "all"}),
        },
        OPPOSITES,
    ),
    "VD_Blend": ({**PAIRS, "ratio": SHARE}, OPPOSITES),
    "VD_Sampler": (
        {
            "model": ("MODEL", {}),
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "latent_image": ("LATENT", {}),
            "seed": SEED,
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "cfg": ("FLOAT", {"default": 7.5, "min": 0.0, "max": 100.0, "step": 0.1}),
            "sampler": (["ddim", "ddpm", "euler", "dpmpp_2m", "unipc"], {"default": "ddim"}),
            "eta": NOTHING,
            "fidelity": NOTHING,
            "noise": (["per sample", "official", "shared"], {"default": "per sample"}),
            "start_noise": ("LATENT", {}),
        },
        {"LATENT": "LATENT"},
    ),
    "VD_OfficialDDIM": (
        {"model": ("MODEL", {}), "steps": ("INT", {"default": 50, "min": 1, "max": 1000}), "eta": NOTHING},
        {"SAMPLER": "SAMPLER", "SIGMAS": "SIGMAS"},
    ),
    "VD_EmptyTextLatent": (
        {"text_vae": ("VD_TEXT_VAE", {}), "batch_size": ("INT", {"default": 4, "min": 1, "max": 4096})},
        {"LATENT": "LATENT"},
    ),
    "VD_TextEncode": ({"text_vae": ("VD_TEXT_VAE", {}), "text": LINES}, {"LATENT": "LATENT"}),
    "VD_TextDecode": (
        {
            "text_vae": ("VD_TEXT_VAE", {}),
            "samples": ("LATENT", {}),
            "seed": SEED,
            "temperature": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01}),
            "top_k": ("INT", {"default": 0, "min": 0, "max": 100000}),
            "top_p": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            "remove_duplicates": ("BOOLEAN", {"default": True}),
            "noise": NOISE,
        },
        {"text": "STRING", "texts": "STRING"},
    ),
    "VD_EditText": ({"text_vae": ("VD_TEXT_VAE", {}), "samples": ("LATENT", {}), "remove": LINES, "add": LINES}, {"LATENT": "LATENT"}),
    "VD_ColorAdjust": ({"image": ("IMAGE", {}), "reference": ("IMAGE", {})}, {"IMAGE": "IMAGE"}),
    "VD_Join": ({**PAIRS, "mode": (["concatenate", "average"], {"default": "concatenate"}), "share": SHARE}, OPPOSITES),
    "VD_SaveContext": (
        {"positive": ("CONDITIONING", {}), "negative": ("CONDITIONING", {}), "filename_prefix": ("STRING", {"default": "context"})},
        {},
    ),
    "VD_LoadContext": (
        {
            "file": (["brain-pictures.safetensors", "brain-texts.safetensors", "tiny.safetensors"], {}),
            "kind": (["as saved", "text", "image"], {"default": "as saved"}),
            "normalise": ("BOOLEAN", {"default": False}),
        },
        OPPOSITES,
    ),
    "SeeCoder_Load": ({"model": FILES}, {"SEECODER": "SEECODER"}),
    "SeeCoder_Encode": (
        {
            "seecoder": ("SEECODER", {}),
            "image": ("IMAGE", {}),
            "global_weight": WEIGHT,
            "local_weight": WEIGHT,
            "strength": WEIGHT,
            "longest_side": ("INT", {"default": 1024, "min": 0, "max": 8192, "step": 8}),
            "crop": ("BOOLEAN", {"default": False}),
            "mask": ("MASK", {}),
            "unconditional": ("CONDITIONING", {}),
            "model": ("MODEL", {}),
        },
        OPPOSITES,
    ),
    "PFD_LoadDiffuser": ({"model": (["tiny.safetensors"], {})}, {"MODEL": "MODEL"}),
    "VD_RankImages": (
        {"clip": ("CLIP", {}), "clip_vision": ("CLIP_VISION", {}), "image": ("IMAGE", {}), "text": LINES, "best": BEST},
        {"IMAGE": "IMAGE", "report": "STRING", "scores": "FLOAT"},
    ),
    "VD_RankTexts": (
        {"clip": ("CLIP", {}), "clip_vision": ("CLIP_VISION", {}), "image": ("IMAGE", {}), "texts": LINES, "best": BEST},
        {"text": "STRING", "texts": "STRING", "report": "STRING", "scores": "FLOAT"},
    ),
    "VD_Region": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "x": NOTHING,
            "y": NOTHING,
            "width": WHOLE,
            "height": WHOLE,
            "start": NOTHING,
            "end": WHOLE,
            "mask": ("MASK", {}),
        },
        OPPOSITES,
    ),
    "VD_ContextGuidance": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "guidance": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05}),
        },
        OPPOSITES,
    ),
    "VD_Squeeze": ({"image": ("IMAGE", {}), "width": PIXELS, "height": PIXELS, "mask": ("MASK", {})}, {"IMAGE": "IMAGE", "MASK": "MASK"}),
    "VD_ImageEncode": (
        {"pixels": ("IMAGE", {}), "vae": ("VAE", {}), "seed": SEED, "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096})},
        {"LATENT": "LATENT"},
    ),
    "VD_Interpolate": ({**PAIRS, "count": COUNT}, {**OPPOSITES, "shares": "STRING"}),
    "VD_InterpolateLatents": ({"samples_1": ("LATENT", {}), "samples_2": ("LATENT", {}), "count": COUNT}, {"LATENT": "LATENT"}),
    "VD_TextDifference": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "clip": ("CLIP", {}),
            "text_before": LINES,
            "text_after": LINES,
            "theta": ("FLOAT", {"default": 0.3, "min": 0.0, "max": 1.0, "step": 0.01}),
        },
        OPPOSITES,
    ),
    "VD_Sheet": (
        {
            "image": ("IMAGE", {}),
            "columns": ("INT", {"default": 4, "min": 1, "max": 64}),
            "labels": LINES,
            "title": ("STRING", {"default": ""}),
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_Invert": (
        {
            "model": ("MODEL", {}),
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "latent_image": ("LATENT", {}),
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "cfg": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.1}),
        },
        {"start_noise": "LATENT"},
    ),
    "VD_ShowSchedule": (
        {
            "model": ("MODEL", {}),
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "sampler": (["ddim", "ddpm", "euler", "dpmpp_2m", "unipc"], {"default": "ddim"}),
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_ForwardProcess": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "timesteps": ("STRING", {"default": "0 100 300 600 999"}),
            "seed": SEED,
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_FocusSpectrum": ({"clip_vision": ("CLIP_VISION", {}), "image": ("IMAGE", {}), "focus": SHARE}, {"IMAGE": "IMAGE"}),
    "VD_Similarity": (
        {"positive_1": ("CONDITIONING", {}), "positive_2": ("CONDITIONING", {}), "image": ("IMAGE", {})},
        {"IMAGE": "IMAGE"},
    ),
    "VD_Guidance": (
        {
            "model": ("MODEL", {}),
            "start": ("FLOAT", {"default": 0.2, "min": 0.0, "max": 0.999, "step": 0.001}),
            "end": ("FLOAT", {"default": 0.8, "min": 0.001, "max": 1.0, "step": 0.001}),
            "rescale": NOTHING,
            "threshold": (["none", "static", "dynamic"], {"default": "dynamic"}),
            "percentile": ("FLOAT", {"default": 0.995, "min": 0.5, "max": 1.0, "step": 0.001}),
            "bound": ("FLOAT", {"default": 4.0, "min": 0.1, "max": 100.0, "step": 0.1}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerByClip": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "clip_vision": ("CLIP_VISION", {}),
            "text": LINES,
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.05}),
            **STEERING,
            "clip": ("CLIP", {}),
            "image": ("IMAGE", {}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerByColor": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.2}),
            **STEERING,
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerToPicture": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.2}),
            **STEERING,
            "mask": ("MASK", {}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_ResolutionShift": (
        {
            "model": ("MODEL", {}),
            "latent_image": ("LATENT", {}),
            "noisy": WEIGHT,
            "clean": WEIGHT,
            "trained_side": ("INT", {"default": 0, "min": 0, "max": 4096}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_LowPassTie": (
        {
            "model": ("MODEL", {}),
            "latent_image": ("LATENT", {}),
            "factor": ("INT", {"default": 2, "min": 1, "max": 64}),
            "strength": WHOLE,
            "end": WHOLE,
        },
        {"MODEL": "MODEL"},
    ),
}
OPTIONAL = {
    "VD_ImageContext": ["mask", "tokens"],
    "VD_Sampler": ["start_noise"],
    "SeeCoder_Encode": ["mask", "unconditional", "model"],
    "VD_Region": ["mask"],
    "VD_Similarity": ["image"],
    "VD_TextDecode": ["noise"],
    "VD_Squeeze": ["mask"],
    "VD_SteerByClip": ["clip", "image"],
    "VD_SteerToPicture": ["mask"],
}
LISTS = {
    "VD_TextDecode": (False, True),
    "VD_RankImages": (False, False, True),
    "VD_RankTexts": (False, True, False, True),
}
CATEGORIES = {
    "VD_LoadImageModel": "VersatileDiffusion/loaders",
    "VD_LoadTextModel": "VersatileDiffusion/loaders",
    "VD_LoadClip": "VersatileDiffusion/loaders",
    "VD_LoadClipVision": "VersatileDiffusion/loaders",
    "VD_TextContext": "VersatileDiffusion/conditioning",
    "VD_ImageContext": "VersatileDiffusion/conditioning",
    "VD_Blend": "VersatileDiffusion/conditioning",
    "VD_Sampler": "VersatileDiffusion",
    "VD_OfficialDDIM": "VersatileDiffusion",
    "VD_EmptyTextLatent": "VersatileDiffusion/text",
    "VD_TextEncode": "VersatileDiffusion/text",
    "VD_TextDecode": "VersatileDiffusion/text",
    "VD_EditText": "VersatileDiffusion/text",
    "VD_ColorAdjust": "VersatileDiffusion",
    "VD_Join": "VersatileDiffusion/conditioning",
    "VD_SaveContext": "VersatileDiffusion/conditioning",
    "VD_LoadContext": "VersatileDiffusion/conditioning",
    "SeeCoder_Load": "VersatileDiffusion/seecoder",
    "SeeCoder_Encode": "VersatileDiffusion/seecoder",
    "PFD_LoadDiffuser": "VersatileDiffusion/seecoder",
    "VD_RankImages": "VersatileDiffusion",
    "VD_RankTexts": "VersatileDiffusion/text",
    "VD_Region": "VersatileDiffusion/conditioning",
    "VD_ContextGuidance": "VersatileDiffusion/conditioning",
    "VD_Squeeze": "VersatileDiffusion",
    "VD_ImageEncode": "VersatileDiffusion",
    "VD_Interpolate": "VersatileDiffusion/conditioning",
    "VD_InterpolateLatents": "VersatileDiffusion",
    "VD_TextDifference": "VersatileDiffusion/conditioning",
    "VD_Sheet": "VersatileDiffusion",
    "VD_Invert": "VersatileDiffusion",
    "VD_ShowSchedule": "VersatileDiffusion/explain",
    "VD_ForwardProcess": "VersatileDiffusion/explain",
    "VD_FocusSpectrum": "VersatileDiffusion/explain",
    "VD_Similarity": "VersatileDiffusion/explain",
    "VD_Guidance": "VersatileDiffusion",
    "VD_SteerByClip": "VersatileDiffusion/steering",
    "VD_SteerByColor": "VersatileDiffusion/steering",
    "VD_SteerToPicture": "VersatileDiffusion/steering",
    "VD_ResolutionShift": "VersatileDiffusion",
    "VD_LowPassTie": "VersatileDiffusion",
}


PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
EMPTY = {"samples": torch.zeros(2, 4, 8, 8)}


def text(nodes, loaded, prompt="red apple"):
    return nodes["VD_TextContext"](clip=loaded["clip"], text=prompt, negative_text="")


def picture(nodes, loaded, **inputs):
    return nodes["VD_ImageContext"](**{"clip_vision": loaded["clip_vision"], "image": PICTURE, **inputs})


def draw(nodes, loaded, contexts, latent=EMPTY, model="image_model", **inputs):
    inputs = {"steps": 2, "seed": 3, **inputs}
    return nodes["VD_Sampler"](model=loaded[model], positive=contexts[0], negative=contexts[1], latent_image=latent, **inputs)[0]["samples"]


def mix(nodes, first, second, ratio=0.5):
    return nodes["VD_Blend"](positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1], ratio=ratio)


def test_ids_inputs_and_their_order_are_frozen(pack, models, monkeypatch):
    monkeypatch.setenv("VD_MODELS", str(models))
    assert list(pack.NODE_CLASS_MAPPINGS) == list(PINNED)
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        schema = cls.INPUT_TYPES()
        inputs = [(key, spec) for section in ("required", "optional") for key, spec in schema.get(section, {}).items()]
        options = [(key, (spec[0], {k: v for k, v in spec[1].items() if k != "tooltip"})) for key, spec in inputs]
        assert options == list(PINNED[name][0].items()), name
        assert list(schema.get("optional", {})) == OPTIONAL.get(name, []), name
        outputs = zip(getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES), cls.RETURN_TYPES, strict=True)
        assert list(outputs) == list(PINNED[name][1].items()), name
        assert (getattr(cls, "OUTPUT_IS_LIST", None), cls.CATEGORY) == (LISTS.get(name), CATEGORIES[name]), name


def test_nodes_are_thin_and_hold_nothing(pack):
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        assert cls.FUNCTION == "execute" and cls.__init__ is object.__init__, name
        assert len(inspect.getsource(cls.execute).splitlines()) <= 15, name
        assert hasattr(cls, "OUTPUT_NODE") == (not cls.RETURN_TYPES), name


def test_layers_are_read_when_a_sample_needs_them_and_only_once(nodes, loaded, pack, monkeypatch):
    standalone = importlib.import_module(f"{pack.__name__}.nodes.host.standalone")
    parts, read = [], standalone.read
    monkeypatch.setattr(standalone, "read", lambda path, part: parts.append(part) or read(path, part))
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    alone = draw(nodes, loaded, words)
    assert parts == ["diffuser.data.image", "diffuser.context.text"]
    draw(nodes, loaded, mix(nodes, words, seen))
    assert torch.equal(draw(nodes, loaded, words), alone), "layers that came later changed a flow"
    assert parts == ["diffuser.data.image", "diffuser.context.text", "diffuser.context.image"]


def test_a_part_that_the_file_lacks_is_named_and_may_come_from_another(nodes, model, models, vocabularies, tmp_path, monkeypatch):
    save_model(tmp_path / "partly.safetensors", replace(model, text_vae=None), vocabularies)
    shutil.copy(models / "tiny.safetensors", tmp_path)
    monkeypatch.setenv("VD_MODELS", str(tmp_path))
    with pytest.raises(ValueError, match=r"partly.safetensors has no text_vae; published in optimus-vae.pth"):
        nodes["VD_LoadTextModel"](model="partly.safetensors")
    text_vae = nodes["VD_LoadTextModel"](model="partly.safetensors", text_vae="tiny.safetensors")[1]
    assert nodes["VD_TextEncode"](text_vae=text_vae, text="red apple")[0]["samples"].shape == (1, 24, 1, 1)


def test_layout_holds_kinds_tokens_and_ratios(nodes, loaded):
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    once = mix(nodes, words, seen, 0.25)
    twice = mix(nodes, once, words)
    layout = twice[0][0][1]["vd_layout"]
    assert [part.kind for part in layout] == ["text", "image", "text"]
    assert [part.ratio for part in layout] == [0.375, 0.125, 0.5]
    assert twice[0][0][0].shape[1] == sum(part.count for part in layout) == twice[1][0][0].shape[1]


def test_blend_with_ratio_0_and_1_is_one_side_alone(nodes, loaded):
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    for ratio, alone in ((0.0, words), (1.0, seen)):
        blended = mix(nodes, words, seen, ratio)
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
    torch.testing.assert_close(draw(nodes, loaded, text(nodes, loaded), latent, fidelity=1.0), latent["samples"])


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


def test_an_edit_takes_one_meaning_out_and_puts_another_in(nodes, loaded):
    latents, removed, added = (
        nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text=text)[0]["samples"] for text in ("red apple", "two dogs", "cat")
    )

    def edit(**inputs):
        return nodes["VD_EditText"](text_vae=loaded["text_vae"], samples={"samples": latents}, **inputs)[0]["samples"]

    edited, direction = edit(remove="two dogs", add="cat"), removed.flatten() / removed.norm()
    assert edited.shape == latents.shape
    torch.testing.assert_close((edited - added).flatten() @ direction, torch.tensor(0.0), atol=1e-5, rtol=0)
    assert torch.equal(edit(remove="", add=" "), latents)
    torch.testing.assert_close(edit(remove="", add="cat"), latents + added)


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
    cut = [[words[0][0][0][:, :5], words[0][0][1]]]
    stranger = ([[torch.zeros(1, 77, 48), {"vd_layout": words[0][0][1]["vd_layout"]}]],) * 2
    yield lambda: draw(nodes, loaded, words, steps=-1), "number of steps lies between 1 and 1000, got -1"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.zeros(1, 4, 7, 8)}), "must be divisible by 2, got [7, 8]"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.zeros(0, 4, 8, 8)}), "empty batch"
    yield lambda: draw(nodes, loaded, words, text_latent), "the image model needs an Empty Latent Image"
    yield lambda: draw(nodes, loaded, words, EMPTY, model="text_model"), "the text model needs an Empty Text Latent"
    yield lambda: draw(nodes, loaded, words, {"samples": torch.ones(1, 16, 8, 8)}), "16 channels where the image model has 4"
    yield lambda: draw(nodes, loaded, (words[0], seen[1])), "same context or Blend node"
    yield lambda: draw(nodes, loaded, (stock, stock)), "positive must come from one of the context nodes"
    yield lambda: draw(nodes, loaded, (mix(nodes, words, seen, 0.3)[0], mix(nodes, words, seen, 0.6)[1])), "different contexts or ratios"
    yield lambda: draw(nodes, loaded, (words[0] + seen[0], words[1])), "positive must come from one of the context nodes"
    yield lambda: draw(nodes, loaded, (cut, words[1])), "made 5 tokens of 77, so the contexts can no longer be told apart"
    yield lambda: draw(nodes, loaded, picture(nodes, loaded, image=PICTURE.repeat(3, 1, 1, 1))), "has 3 samples, the latent has 2"
    yield lambda: mix(nodes, words, stranger), "widths 40 and 48 cannot be blended: they come from different models"
    yield lambda: draw(nodes, loaded, stranger), "read tokens of width 40, got 48"
    yield lambda: draw(nodes, loaded, words, sampler="lms"), "sampler is one of ddim"
    yield lambda: draw(nodes, loaded, words, fidelity=1.5), "Fidelity lies between 0 and 1"
    yield lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=EMPTY), "decode pictures with VAE Decode"
    none = {"samples": torch.zeros(0, 24, 1, 1)}
    yield lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=none), "must be text latents, got a latent [0, 24, 1, 1]"
    yield lambda: nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text=" \n "), "no text to encode"
    yield lambda: loaded["vae"].encode(torch.zeros(1, 63, 64, 3)), "Image sides must be divisible by 8, got 63x64"
    yield lambda: picture(nodes, loaded, unconditional="white"), "unconditional image is one of zeros, black, grey"
    yield lambda: nodes["VD_LoadClip"](model="nothing.pth"), "There is no nothing.pth in"
    yield lambda: nodes["VD_LoadImageModel"](model="tiny.safetensors", weight_dtype="fp16"), "weight_dtype fp16 needs ComfyUI"
    yield lambda: nodes["VD_OfficialDDIM"](model=loaded["image_model"]), "without ComfyUI use Multi-Flow Sampler (VD)"


def test_what_cannot_work_is_refused_with_a_sentence(nodes, loaded):
    for action, sentence in refusals(nodes, loaded):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            action()
        assert sentence in str(error.value), str(error.value)


def test_long_prompt_is_cut_with_a_warning_that_says_where(nodes, loaded, caplog):
    text(nodes, loaded, "red " * 100 + "apple")
    assert "77" in caplog.text or "75" in caplog.text
