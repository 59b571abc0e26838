"""The official app's methods through node classes: golden cases `app_*`, and what makes them exact.

VD_GOLDEN=DIR pytest tests/nodes/test_app_nodes.py    runs the cases of another folder too.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import app_nodes
import parity
import pytest
import torch
from golden_cases.models import vd_config
from golden_cases.models import vocabularies as vocabularies_of
from rounding import assert_rounded

from runner import core_nodes
from vd_core.checkpoints.load import load
from vd_core.checkpoints.write import save_model
from vd_core.context import Context
from vd_core.encoders.focus import keep_leading_components
from vd_core.flows import select_image_tokens
from vd_core.sampling.options import Sampling

HERE = Path(__file__).resolve().parents[1]
FOLDERS = [str(HERE / "golden" / "vd"), *filter(None, [os.environ.get("VD_GOLDEN")])]
CASES = parity.find_cases(FOLDERS)
APPS = [case for case in CASES if case.name.startswith("app_")]


@pytest.fixture(scope="module")
def app(pack, nodes, tmp_path_factory):
    """A case -> its comparisons; its model is a file that the loader nodes read, and core's VAE Decode is its
    stand-in."""
    nodes, known = nodes | {"VAEDecode": core_nodes.VAEDecode().execute}, {}

    def run(case):
        if case.root not in known:
            known[case.root] = loaded_of(case, nodes, tmp_path_factory.mktemp("models"))
        models, folder, prompts = known[case.root]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("VD_MODELS", str(folder))
            yield from app_nodes.run_app(case, nodes, models, folder, prompts)

    return run


def loaded_of(case, nodes, folder):
    """Return the loaders' outputs for the case's model as one file, the folder, and the prompts that its CLIP
    reads."""
    others = {other.name: other for other in CASES if other.root == case.root}
    vocabularies = vocabularies_of(others.get("app_i2t", case))  # the config of a case with texts names them
    whole = load(case.weights(), config=vd_config(case.sizes), vocabularies=vocabularies)
    save_model(folder / "golden.safetensors", whole, vocabularies)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VD_MODELS", str(folder))
        names = "image_model", "vae", "text_model", "text_vae", "clip", "clip_vision"
        loaders = "VD_LoadImageModel", "VD_LoadTextModel", "VD_LoadClip", "VD_LoadClipVision"
        outputs = [output for loader in loaders for output in nodes[loader](model="golden.safetensors")]
    models = dict(zip(names, outputs, strict=True))
    read = others.get("clip_context")
    ids = dict(zip(read.config["texts"], read.io["text_ids"].long(), strict=True)) if read else {}
    models["clip"].tokenizer = SimpleNamespace(
        encode_weighted=lambda texts: (
            torch.stack([ids[text] for text in texts]),
            torch.ones(len(texts), 77),
        ),
        bpe=SimpleNamespace(encode=str.split),  # counts the tokens of a word
    )
    return models, folder, ids


@pytest.mark.parametrize("case", APPS, ids=lambda case: case.name)
def test_app_method_through_nodes(case, app):
    with torch.inference_mode():
        verdict = parity.judge(case, app(case))
    assert not verdict.failure, verdict.line
    assert verdict.name != "-"
    print(case.name, verdict.line)


def test_all_methods_are_there():
    assert len({case.name for case in APPS}) == 11


def text(nodes, loaded):
    """positive and negative, as the inputs of nodes."""
    return dict(
        zip(
            ("positive", "negative"),
            nodes["VD_TextContext"](clip=loaded["clip"], text="red apple"),
            strict=True,
        )
    )


def test_encoding_and_sampling_draw_from_one_official_stream(nodes, loaded, model):
    """The posterior's noise, then that of the start, then one for each step."""
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(105)
    posterior, start, step = (torch.randn(shape) for shape in ((1, 4, 4, 4), (3, 4, 4, 4), (3, 4, 4, 4)))
    (latent,) = nodes["VD_ImageEncode"](pixels=image, vae=loaded["vae"], seed=5, batch_size=3)
    clean = model.image_vae.encode(image.movedim(-1, 1), posterior)
    assert torch.equal(latent["samples"], clean.expand(3, -1, -1, -1))
    options = {"steps": 2, "fidelity": 0.5, "eta": 1.0}
    (sampled,) = nodes["VD_Sampler"](
        model=loaded["image_model"],
        latent_image=latent,
        seed=5,
        noise="official",
        **options,
        **text(nodes, loaded),
    )
    draws = iter((start, step))
    noise = SimpleNamespace(draw=lambda shape: next(draws))
    expected = model.sample(
        "image", [model.encode_text(["red apple"])], latent["samples"], noise, Sampling(**options)
    )
    assert_rounded(sampled["samples"], expected)
    assert sampled["vd_drawn"] == [tuple(x.shape) for x in (posterior, start, step)]


@pytest.mark.parametrize("noise", ["per sample", "official"])
def test_words_are_drawn_behind_the_sampler_or_for_each_sentence_alone(nodes, loaded, noise):
    """The first of equal latents reads as it does alone; the others read differently, from the next draws or
    from streams of their own."""
    (empty,) = nodes["VD_EmptyTextLatent"](text_vae=loaded["text_vae"], batch_size=3)
    (latent,) = nodes["VD_Sampler"](
        model=loaded["text_model"],
        latent_image=empty,
        seed=5,
        steps=2,
        noise="official",
        **text(nodes, loaded),
    )
    assert latent["vd_drawn"] == [(3, 24)] * 3
    same = {**latent, "samples": latent["samples"][:1].expand(3, -1, -1, -1)}

    def read(samples):
        result = nodes["VD_TextDecode"](
            text_vae=loaded["text_vae"], samples=samples, seed=5, remove_duplicates=False, noise=noise
        )
        return result["result"][1]

    assert read(same)[:1] == read({**same, "samples": same["samples"][:1]}) and len(set(read(same))) == 3
    if noise == "official":
        torch.manual_seed(105)
        torch.randn(3, 24), torch.randn(3, 24), torch.randn(3, 24)
        assert read(same) == loaded["text_vae"].optimus.decode(
            same["samples"].flatten(1), torch.default_generator
        )


def test_sampling_per_sample_starts_a_new_stream(nodes, loaded):
    latent = {"samples": torch.zeros(1, 4, 4, 4), "vd_drawn": [(1, 4, 4, 4)]}
    (sampled,) = nodes["VD_Sampler"](
        model=loaded["image_model"], latent_image=latent, steps=1, **text(nodes, loaded)
    )
    assert not sampled["vd_drawn"]


def test_squeeze_keeps_all_of_a_picture_and_its_mask(nodes):
    """A picture of its size is unchanged to the bit; halves stay halves whatever the proportions."""
    image = (torch.arange(16 * 8 * 3).reshape(1, 16, 8, 3) % 256) / 255
    picture, mask = nodes["VD_Squeeze"](image=image, width=8, height=16)
    assert torch.equal(picture, image) and torch.equal(mask, torch.zeros(1, 16, 8))
    halves = torch.zeros(1, 64, 32, 3)
    halves[:, 32:] = 1
    picture, mask = nodes["VD_Squeeze"](image=halves, width=64, height=16, mask=halves[..., 0])
    assert picture.shape == (1, 16, 64, 3) and mask.shape == (1, 16, 64)
    for found in (picture[..., 0], mask):
        assert found[:, :6].max() < 0.05 and found[:, 10:].min() > 0.95


def test_an_edit_changes_nothing_off_the_two_meanings(nodes, loaded):
    """What is orthogonal to both sentences stays."""

    def latents(*lines):
        return nodes["VD_TextEncode"](text_vae=loaded["text_vae"], text="\n".join(lines))[0][
            "samples"
        ].flatten(1)

    z, (n, p) = latents("red apple", "flat style"), latents("two dogs", "cat")
    (edited,) = nodes["VD_EditText"](
        text_vae=loaded["text_vae"], samples={"samples": z[:, :, None, None]}, remove="two dogs", add="cat"
    )
    span = torch.linalg.qr(torch.stack([n, p], dim=1)).Q
    change = edited["samples"].flatten(1) - z
    torch.testing.assert_close(change @ span @ span.T, change, atol=1e-5, rtol=0)


def test_style_tokens_are_the_patches_of_rank_10(nodes, loaded):
    """The best approximation of that rank (Eckart and Young 1936): its error is what the other singular
    values hold."""
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))

    def look(**options):
        return nodes["VD_ImageContext"](
            clip_vision=loaded["clip_vision"], image=image, unconditional="grey", **options
        )

    for side in (0, 1):
        whole, patches, style = (look(tokens=tokens)[side][0][0] for tokens in ("all", "patches", "style"))
        assert torch.equal(patches, whole[:, 1:])
        singular = torch.linalg.svdvals((patches - patches.mean(dim=-1, keepdim=True))[0])
        assert singular[10] > 1e-3
        torch.testing.assert_close((patches - style).norm(), singular[10:].norm(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(style.mean(dim=-1), patches.mean(dim=-1), atol=1e-6, rtol=0)
    assert torch.equal(look(tokens="all")[0][0][0], look()[0][0][0])


def test_style_of_full_rank_is_all_and_an_unknown_choice_is_refused():
    tokens = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(keep_leading_components(tokens, 8), tokens)
    with pytest.raises(ValueError, match="The tokens of a picture are all, patches, style, got 'some'."):
        select_image_tokens(Context("image", tokens), "some")


def looked_at(nodes, loaded, seed, weight=1.0):
    """Return the context of a picture made by chance."""
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed))
    return nodes["VD_ImageContext"](clip_vision=loaded["clip_vision"], image=image, weight=weight)


def drawn(nodes, loaded, context):
    """Return a latent under a context."""
    latent, sides = (
        {"samples": torch.zeros(1, 4, 4, 4)},
        dict(zip(("positive", "negative"), context, strict=True)),
    )
    return nodes["VD_Sampler"](model=loaded["image_model"], latent_image=latent, seed=1, steps=2, **sides)[0][
        "samples"
    ]


def test_several_pictures_share_one_softmax(nodes, loaded):
    """So their order does not count, and a picture that is there twice counts as once when it is alone, but
    more beside another."""

    def joined(first, *others):
        for other in others:
            first = nodes["VD_Join"](**app_nodes.pairs(first, other))
        return drawn(nodes, loaded, first)

    one, other, third = (
        looked_at(nodes, loaded, seed, weight) for seed, weight in ((1, 1.0), (2, 0.5), (3, 1.5))
    )
    mixed = joined(one, other, third)
    assert_rounded(mixed, joined(third, one, other))
    assert_rounded(joined(one, one), drawn(nodes, loaded, one))
    assert (joined(one, one, other) - joined(one, other)).abs().max() > 1e-2
    assert (mixed - joined(one, other)).abs().max() > 1e-2
