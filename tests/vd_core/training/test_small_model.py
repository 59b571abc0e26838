"""Training of the small model from data to one file, at a size that takes a moment."""

from functools import partial

import pytest
import torch
from PIL import Image
from rounding import assert_rounded

from vd_core.checkpoints.load import load
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.options import Sampling
from vd_core.training import sheets, small_model
from vd_core.training.dataset import CaptionedPictures, draw_partners
from vd_core.training.small_model import SmallModelTraining, train

STEPS = {
    "image_vae": 1,
    "clip": 1,
    "text_vae": 1,
    "diffuser": 1,
    "captioner": 1,
    "classifier": 1,
    "discriminator": 1,
    "decoder": 1,
}


@pytest.fixture(scope="module")
def data():
    names, styles = ("cat", "red apple", "dog", "key"), ("flat", "line")
    name, style = torch.arange(8) // 2, torch.arange(8) % 2
    images = torch.randint(
        0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return CaptionedPictures(images, name, style, torch.arange(8) == 3, names, styles)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Return the folder of a run of one step per stage, with small batches and small sheets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_model, "BATCHES", dict.fromkeys(small_model.BATCHES, 2))
        patch.setattr(small_model, "BESIDES", dict.fromkeys(small_model.BESIDES, 2))
        patch.setattr(small_model, "CAPTIONED", 2)
        patch.setattr(small_model, "VIEWS", 3)
        patch.setattr(sheets, "choose_pairs", lambda data: torch.cat([data.train[:1], data.held_out[:1]]))
        patch.setattr(sheets, "draw_samples", partial(sheets.draw_samples, steps=1))
        return train(data, tmp_path_factory.mktemp("run"), STEPS)


def test_from_data_to_a_model_that_draws_and_writes(trained, data):
    model = load(trained)
    context = model.encode_text(["red apple, flat style"])
    latent = model.sample("image", [context], torch.zeros(1, 16, 8, 8), 0, Sampling(steps=2))
    with torch.inference_mode():
        assert model.image_vae.decode(latent).shape == (1, 3, 64, 64)
    words = model.sample("text", [context], torch.zeros(1, 64), 0, Sampling(steps=2))
    with torch.inference_mode():
        assert len(model.text_vae.decode(words, torch.Generator())) == 1
    scales = [sizes.latent_scale for sizes in model.config.diffuser.data.values()]
    assert (
        all(scale > 0 and scale not in (1, 0.18215) for scale in scales)
        and model.config.schedule.prediction == "v"
    )


def test_flows_are_trained_on_parts_of_captions_and_views_of_pictures(trained, data, monkeypatch):
    monkeypatch.setattr(small_model, "VIEWS", 3)
    run = SmallModelTraining(data, trained.parent, STEPS)
    image_vae, clip, text_vae = run.image_vae(), run.clip(), run.text_vae()
    flows, config = run.prepare(image_vae, clip, text_vae)
    assert all(sizes.latent_scale != 1 for sizes in config.diffuser.data.values())
    assert set(flows["text"].contexts) == {"text"} and set(flows["image"].contexts) == {"image"}
    scale = {kind: sizes.latent_scale for kind, sizes in config.diffuser.data.items()}
    own = image_vae.encode(data.pixels[data.train]) * scale["image"]  # only trained pairs are seen
    said = [data.captions[i] for i in data.train]
    assert own.std().item() == pytest.approx(1, abs=1e-3)

    for row, text in (
        (0, "cat, flat style"),
        (7, "cat, flat style"),
        (4 * 7, "cat"),
        (4 * 7 + 2, "red apple"),
        (5 * 7 + 1, "line style"),
    ):
        assert torch.equal(flows["text"].contexts["text"][row], clip.encode_text([text])[0])
        assert_rounded(flows["text"].latents["text"][row], text_vae.encode([text])[0] * scale["text"])
    # Texts meet pictures as they are
    assert_rounded(flows["text"].latents["image"], own.repeat(6, 1, 1, 1))

    views = run.make_views()
    assert (
        torch.equal(views[:7], data.pixels[data.train])
        and len(views) == 21
        and len(flows["image"].contexts["image"]) == 21 + 4 * 7
    )
    for row in (0, 8, 20):
        assert_rounded(flows["image"].contexts["image"][row], clip.encode_image(views[row : row + 1])[0])
        assert_rounded(
            flows["image"].latents["image"][row], image_vae.encode(views[row : row + 1])[0] * scale["image"]
        )
    assert_rounded(flows["image"].latents["text"][:21], text_vae.encode(said).repeat(3, 1) * scale["text"])
    told = flows["captions"]
    assert (
        len(told.latents["text"])
        == len(told.contexts["image"])
        == len(told.contexts["text"])
        == (3 + small_model.INKED) * 7
    )
    for row, text in ((8, "cat, line style"), (21, "cat"), (21 + 9, "red apple"), (7 * 7 - 1, "key")):
        torch.testing.assert_close(
            told.contexts["text"][row].float(), clip.encode_text([text])[0], atol=1e-3, rtol=1e-3
        )
        assert_rounded(told.latents["text"][row], text_vae.encode([text])[0] * scale["text"])
    torch.testing.assert_close(
        told.contexts["image"][:21].float(), flows["image"].contexts["image"][:21], atol=1e-3, rtol=1e-3
    )
    null = flows["image"].nulls["image"]
    assert not null[0].any() and null[1].any() and len(null) == 2


def test_a_picture_in_focus_is_trained_to_be_what_the_focus_leaves(trained, data, monkeypatch):
    """At 0 the same name in another style, and the name alone; at 1 another name in the same style, and the
    style alone."""
    monkeypatch.setattr(small_model, "VIEWS", 3)
    run = SmallModelTraining(data, trained.parent, STEPS)
    image_vae, clip, text_vae = run.image_vae(), run.clip(), run.text_vae()
    flows, config = run.prepare(image_vae, clip, text_vae)
    pictures, model = data.pixels[data.train], VersatileDiffusion(config, clip=clip)
    latents = image_vae.encode(pictures) * config.diffuser.data["image"].latent_scale
    for first, level, labels, left in (
        (21, 0.0, data.name, "red apple"),
        (21 + 14, 1.0, data.style, "flat style"),
    ):
        labels, rows = labels[data.train], slice(first, first + 7)
        assert_rounded(
            flows["image"].contexts["image"][rows], model.encode_image(pictures, focus=level).tokens
        )
        drawn = torch.cdist(flows["image"].latents["image"][rows].flatten(1), latents.flatten(1)).argmin(
            dim=1
        )
        assert torch.equal(labels[drawn], labels)
        alone = torch.bincount(labels)[labels] == 1
        assert ((drawn == torch.arange(7)) == alone).all()
        told = text_vae.encode([left])[0] * config.diffuser.data["text"].latent_scale
        # The third picture: red apple, flat style
        assert_rounded(flows["image"].latents["text"][first + 2], told)


def test_the_captioner_leaves_pictures_from_texts_as_they_are(trained):
    """It changes the context layers of images and the data layers of texts, and no other."""
    before, after = (
        torch.load(trained.parent / stage / "checkpoint.pt", weights_only=True)["average"]
        for stage in ("diffuser", "captioner")
    )
    changed = {".".join(name.split(".")[:2]) for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"context.image", "data.text"}


def test_the_decoder_leaves_latents_as_they_are(trained):
    before = torch.load(trained.parent / "image_vae" / "checkpoint.pt", weights_only=True)["average"]
    after = torch.load(trained.parent / "decoder" / "checkpoint.pt", weights_only=True)["average"]
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[f"vae.{name}"])}
    assert changed == {"decoder", "post_quant_conv"}


def test_partners():
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    places = draw_partners(labels, torch.Generator().manual_seed(0))
    assert torch.equal(labels[places], labels) and sorted(places.tolist()) == list(range(6))
    assert (places == torch.arange(6)).tolist() == [False, False, False, True, False, False]
    draws = {tuple(draw_partners(labels, torch.Generator().manual_seed(seed)).tolist()) for seed in range(20)}
    assert len(draws) > 1


def test_views_are_the_pictures_then_distorted_then_recoloured(data, tmp_path):
    run = SmallModelTraining(data, tmp_path, STEPS)
    grey = data.images.float().mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).round().byte()
    run.images = grey[data.train].float() / 255
    views = run.make_views().unflatten(0, (small_model.VIEWS, 7))
    assert torch.equal(views, run.make_views().unflatten(0, (small_model.VIEWS, 7)))
    changed = (views[1:] - views[:1]).abs().mean(dim=(1, 2, 3, 4))
    assert changed.min() > 0.05 and len(views) == small_model.VIEWS


def test_sheets_for_a_person_to_look_at(trained):
    with Image.open(trained.parent / "image_vae" / "sheet.png") as sheet:
        # A trained picture and a held-out one, each above its reconstruction
        assert sheet.size == (64, 4 * 64)
    with Image.open(trained.parent / "diffuser" / "sheet.png") as sheet:
        assert sheet.size == (64, 6 * 64)
    lines = (trained.parent / "diffuser" / "sheet.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["cat, flat style", "red apple, line style"]


def test_a_finished_run_is_only_read(trained, data, monkeypatch):
    before = trained.read_bytes()
    monkeypatch.setattr(small_model, "flow_losses", lambda *arguments: None)  # whoever calls it fails
    train(data, trained.parent, STEPS)
    assert trained.read_bytes() == before


def test_other_vocabularies_are_refused(trained, data):
    run = SmallModelTraining(data, trained.parent, STEPS)
    run.words_hash = {"vocabularies": "other"}
    for stage in (run.clip, run.text_vae):
        with pytest.raises(ValueError, match="another run: vocabularies is other, .* Choose an empty folder"):
            stage()
    assert run.image_vae()
