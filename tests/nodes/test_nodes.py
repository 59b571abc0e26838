"""The node classes: pinned contracts, and what each does on a tiny model with random weights."""

import ast
import importlib
import inspect
import shutil
import textwrap
from functools import partial

import pytest
import torch
from frozen_inputs import CATEGORIES, LISTS, OPTIONAL, PINNED
from node_calls import EMPTY, PICTURE, draw, picture, text
from rounding import assert_rounded

from vd_core.checkpoints.write import save_model
from vd_core.sampling.options import Sampling


def mix(nodes, first, second, ratio=0.5):
    return nodes["VD_Blend"](
        positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1], ratio=ratio
    )


def test_ids_inputs_and_their_order_are_frozen(pack, models, monkeypatch):
    monkeypatch.setenv("VD_MODELS", str(models))
    assert list(pack.NODE_CLASS_MAPPINGS) == list(PINNED)
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        schema = cls.INPUT_TYPES()
        inputs = [
            (key, spec)
            for section in ("required", "optional")
            for key, spec in schema.get(section, {}).items()
        ]
        options = [
            (key, (spec[0], {k: v for k, v in spec[1].items() if k != "tooltip"})) for key, spec in inputs
        ]
        assert options == list(PINNED[name][0].items()), name
        assert list(schema.get("optional", {})) == OPTIONAL.get(name, []), name
        outputs = zip(getattr(cls, "RETURN_NAMES", cls.RETURN_TYPES), cls.RETURN_TYPES, strict=True)
        assert list(outputs) == list(PINNED[name][1].items()), name
        assert (getattr(cls, "OUTPUT_IS_LIST", None), cls.CATEGORY) == (LISTS.get(name), CATEGORIES[name]), (
            name
        )


def test_nodes_are_thin_and_hold_nothing(pack):
    for name, cls in pack.NODE_CLASS_MAPPINGS.items():
        assert cls.FUNCTION == "execute" and cls.__init__ is object.__init__, name
        function = ast.parse(textwrap.dedent(inspect.getsource(cls.execute))).body[0]
        assert function.end_lineno - function.body[0].lineno < 15, name  # without the list of its inputs
        assert hasattr(cls, "OUTPUT_NODE") == (not cls.RETURN_TYPES), name


def test_layers_are_read_when_a_sample_needs_them_and_only_once(nodes, loaded, pack, monkeypatch):
    flow = importlib.import_module(f"{pack.__name__}.nodes.host.flow")
    parts, read = [], flow.read_part
    monkeypatch.setattr(
        flow, "read_part", lambda path, part, dtype: parts.append(part) or read(path, part, dtype)
    )
    words, seen = text(nodes, loaded), picture(nodes, loaded)
    alone = draw(nodes, loaded, words)
    assert parts == ["diffuser.data.image", "diffuser.context.text"]
    draw(nodes, loaded, mix(nodes, words, seen))
    assert torch.equal(draw(nodes, loaded, words), alone), "layers that came later changed a flow"
    assert parts == ["diffuser.data.image", "diffuser.context.text", "diffuser.context.image"]


def test_a_part_that_the_file_lacks_is_named_and_may_come_from_another(
    nodes, model, models, vocabularies, tmp_path, monkeypatch
):
    save_model(tmp_path / "partly.safetensors", model.replace(text_vae=None), vocabularies)
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
    assert_rounded(two[:1], one)
    assert not torch.allclose(two[0], two[1])
    assert not torch.equal(two, draw(nodes, loaded, contexts, eta=0.5, noise="official"))


def test_official_noise_is_that_of_the_official_seed(nodes, loaded, model):
    from vd_core.sampling.noise import batch_noise

    ours = draw(nodes, loaded, text(nodes, loaded), seed=20, noise="official", steps=3)
    official = model.sample(
        "image", [model.encode_text(["red apple"])], EMPTY["samples"], batch_noise(120), Sampling(steps=3)
    )
    assert_rounded(ours, official)


def test_fidelity_1_returns_the_latent(nodes, loaded):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    torch.testing.assert_close(
        draw(nodes, loaded, text(nodes, loaded), latent, fidelity=1.0), latent["samples"]
    )


def test_text_flow_from_picture_to_sentences(nodes, loaded):
    empty = nodes["VD_EmptyTextLatent"](text_vae=loaded["text_vae"], batch_size=3)[0]
    latents = draw(nodes, loaded, picture(nodes, loaded, unconditional="black"), empty, model="text_model")
    assert latents.shape == empty["samples"].shape
    shown = nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples={"samples": latents}, seed=5)
    joined, sentences = shown["result"]
    assert len(sentences) == 3 and joined == "\n".join(sentences) and shown["ui"]["text"] == sentences
    alone = nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples={"samples": latents[:1]}, seed=5)[
        "result"
    ][1]
    assert alone == sentences[:1]


def test_repetitions_are_removed_within_each_text(nodes, monkeypatch, loaded):
    """Equal texts stay, each without what it says twice in a row."""
    said = ["a cat a cat on a mat", "a cat on a mat", "a dog"]
    monkeypatch.setattr(type(loaded["text_vae"]), "decode", lambda *arguments: said)
    sampled = {"text_vae": loaded["text_vae"], "samples": {"samples": torch.zeros(3, 24, 1, 1)}}
    removed = nodes["VD_TextDecode"](**sampled, remove_duplicates=True)["result"][1]
    assert removed == ["a cat on a mat", "a cat on a mat", "a dog"]
    assert nodes["VD_TextDecode"](**sampled, remove_duplicates=False)["result"][1] == said


def test_text_encode_takes_one_sentence_per_line(nodes, loaded):
    latent = nodes["VD_TextEncode"](
        text_vae=loaded["text_vae"], text="red apple, noto style\n\n two dogs \n"
    )[0]["samples"]
    assert latent.shape == (2, 24, 1, 1)


def test_an_edit_takes_one_meaning_out_and_puts_another_in(nodes, loaded):
    latents, removed, added = (
        nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text=text)[0]["samples"]
        for text in ("red apple", "two dogs", "cat")
    )

    def edit(**inputs):
        return nodes["VD_EditText"](text_vae=loaded["text_vae"], samples={"samples": latents}, **inputs)[0][
            "samples"
        ]

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
    yield lambda: draw(nodes, loaded, words, steps=-1), "steps must be a whole number of at least 1, got -1"
    yield (
        lambda: draw(nodes, loaded, words, {"samples": torch.zeros(1, 4, 7, 8)}),
        "must be divisible by 16 pixels, got 64x56",
    )
    yield lambda: draw(nodes, loaded, words, {"samples": torch.zeros(0, 4, 8, 8)}), "empty batch"
    yield lambda: draw(nodes, loaded, words, text_latent), "the image model needs an Empty Latent Image"
    yield (
        lambda: draw(nodes, loaded, words, EMPTY, model="text_model"),
        "the text model needs an Empty Text Latent",
    )
    yield (
        lambda: draw(nodes, loaded, words, {"samples": torch.ones(1, 16, 8, 8)}),
        "16 channels where the image model has 4",
    )
    yield lambda: draw(nodes, loaded, (words[0], seen[1])), "same context or Blend node"
    yield lambda: draw(nodes, loaded, (stock, stock)), "positive must come from one of the context nodes"
    yield (
        lambda: draw(nodes, loaded, (mix(nodes, words, seen, 0.3)[0], mix(nodes, words, seen, 0.6)[1])),
        "different contexts or ratios",
    )
    yield (
        lambda: draw(nodes, loaded, (words[0] + seen[0], words[1])),
        "positive must come from one of the context nodes",
    )
    yield (
        lambda: draw(nodes, loaded, (cut, words[1])),
        "made 5 tokens of 77, so the contexts can no longer be told apart",
    )
    yield (
        lambda: draw(nodes, loaded, picture(nodes, loaded, image=PICTURE.repeat(3, 1, 1, 1))),
        "has 3 samples, the latent has 2",
    )
    yield (
        lambda: mix(nodes, words, stranger),
        "widths 40 and 48 cannot be put together: they come from different models",
    )
    yield lambda: draw(nodes, loaded, stranger), "read tokens of width 40, got 48"
    yield lambda: draw(nodes, loaded, words, sampler="lms"), "sampler must be one of ddim"
    yield (
        lambda: draw(nodes, loaded, words, fidelity=1.5),
        "fidelity must be a finite number from 0 to 1, got 1.5",
    )
    yield (
        lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=EMPTY),
        "decode pictures with VAE Decode",
    )
    none = {"samples": torch.zeros(0, 24, 1, 1)}
    yield (
        lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=none),
        "must be text latents, got a latent [0, 24, 1, 1]",
    )
    yield lambda: nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text=" \n "), "no text to encode"
    yield (
        lambda: loaded["vae"].encode(torch.zeros(1, 63, 64, 3)),
        "Image sides must be divisible by 8, got 63x64",
    )
    yield (
        lambda: picture(nodes, loaded, unconditional="white"),
        "unconditional image is one of zeros, black, grey",
    )
    yield lambda: nodes["VD_LoadClip"](model="nothing.pth"), "There is no nothing.pth in"
    yield (
        lambda: nodes["VD_LoadImageModel"](model="tiny.safetensors", weight_dtype="fp8_e5m2"),
        "weight_dtype fp8_e5m2 needs ComfyUI",
    )
    yield (
        lambda: nodes["VD_OfficialDDIM"](model=loaded["image_model"]),
        "without ComfyUI use Multi-Flow Sampler (VD)",
    )


def test_what_cannot_work_is_refused_with_a_sentence(nodes, loaded):
    for action, sentence in refusals(nodes, loaded):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            action()
        assert sentence in str(error.value), str(error.value)


def test_long_prompt_is_cut_with_a_warning_that_says_where(nodes, loaded, caplog):
    text(nodes, loaded, "red " * 100 + "apple")
    assert "has 101 tokens, 75 fit: everything from “red red" in caplog.text


STRANGE_LATENTS = {
    "of a video": {"samples": torch.zeros(1, 4, 2, 8, 8)},
    "without a batch": {"samples": torch.zeros(16, 8, 8)},
    "of bytes": {"samples": torch.zeros(1, 4, 8, 8, dtype=torch.uint8)},
    "a list": {"samples": [[0.0] * 8] * 8},
    "nothing": {},
}


@pytest.mark.parametrize("kind", STRANGE_LATENTS)
def test_latents_that_are_none_are_named(kind, loaded, nodes):
    latent = STRANGE_LATENTS[kind]
    context = nodes["VD_TextContext"](clip=loaded["clip"], text="red apple, noto style", negative_text="")
    flow = {"model": loaded["image_model"], "positive": context[0], "negative": context[1]}
    for call in (
        lambda: nodes["VD_Sampler"](**flow, latent_image=latent),
        lambda: nodes["VD_Sampler"](
            **flow, latent_image={"samples": torch.zeros(1, 4, 8, 8)}, start_noise=latent
        ),
        lambda: nodes["VD_Invert"](**flow, latent_image=latent),
        lambda: nodes["VD_TextDecode"](text_vae=loaded["text_vae"], samples=latent),
        lambda: nodes["VD_InterpolateLatents"](samples_1=latent, samples_2=latent),
        lambda: nodes["VD_LowPassTie"](model=loaded["image_model"], latent_image=latent),
        lambda: nodes["VD_ResolutionShift"](model=loaded["image_model"], latent_image=latent),
    ):
        with pytest.raises(ValueError, match=r"(image|noise|samples\S*) must hold latents \[batch, channels"):
            call()


def test_masks_of_every_kind(loaded, nodes):
    """Truth values and a mask without a batch are masks; bytes and what is not finite are none."""
    picture, half = torch.rand(1, 64, 64, 3), torch.ones(1, 64, 64)
    half[..., :32] = 0
    context = {"clip_vision": loaded["clip_vision"], "image": picture}
    wanted = nodes["VD_ImageContext"](**context, mask=half)[0][0][0]
    for mask in (half.bool(), half[0], half.double()):
        assert torch.equal(nodes["VD_ImageContext"](**context, mask=mask)[0][0][0], wanted)
    steer = {"model": loaded["image_model"], "vae": loaded["vae"], "image": picture}
    for mask, words in (
        ((half * 255).byte(), r"mask must hold masks .* got \[1, 64, 64\] torch.uint8"),
        (half * 255, "hold values in 0..1, got 0 to 255: divide by 255"),
        (half * torch.nan, "mask holds values that are not finite"),
        (half[:, None, None], "mask must hold masks"),
        ([[1.0]], "mask must hold masks .* got list"),
    ):
        for call in (
            partial(nodes["VD_ImageContext"], **context),
            partial(nodes["VD_Squeeze"], image=picture),
            partial(nodes["VD_SteerToPicture"], **steer),
        ):
            with pytest.raises(ValueError, match=words):
                call(mask=mask)
