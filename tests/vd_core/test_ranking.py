"""Ranking by CLIP: what transformers' CLIPModel says, closed forms, orders and ties, and the two nodes."""

import math

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.encoders.clip import normalise
from vd_core.ranking import best_first, clip_score, probabilities, similarity, token_similarity
from vd_core.sampling.noise import make_generator
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures

TEXTS = ["a cat's hat", "red apple, noto style", "two dogs don't run, 3d style"]


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def test_cosines_and_probabilities_are_those_of_transformers(model, images):
    """Its CLIPModel with the weights of both of our towers: logits are exp(logit_scale) times the cosine."""
    clip = model.clip
    pixels = normalise(images[..., : clip.config.image_size, : clip.config.image_size])
    towers = {
        "text_config": clip.text_tower.config.to_dict(),
        "vision_config": clip.vision_tower.config.to_dict(),
    }
    theirs = CLIPModel(CLIPConfig(**towers, projection_dim=clip.config.projection_dim)).eval()
    weights = {
        **clip.text_tower.state_dict(),
        **clip.vision_tower.state_dict(),
        "logit_scale": torch.tensor(math.log(100)),
    }
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    logits = theirs(input_ids=clip.tokenizer(TEXTS), pixel_values=pixels)
    cosine = similarity(clip.encode_pixels(pixels)[:, 0], clip.embed_text(TEXTS))
    torch.testing.assert_close(100 * cosine, logits.logits_per_image, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        probabilities(cosine), logits.logits_per_image.softmax(dim=-1), rtol=1e-2, atol=1e-4
    )
    torch.testing.assert_close(
        probabilities(cosine.T), logits.logits_per_text.softmax(dim=-1), rtol=1e-2, atol=1e-4
    )


def test_everything_is_like_itself_and_unlike_its_opposite_at_any_length():
    x = draw(5, 16)
    torch.testing.assert_close(similarity(x, 3 * x).diagonal(), torch.ones(5))
    torch.testing.assert_close(similarity(x, -x).diagonal(), -torch.ones(5))
    assert similarity(torch.eye(3), torch.eye(3)).equal(torch.eye(3))


def test_contexts_are_compared_as_whole_vectors():
    """As research code does it: flatten, normalise, product."""
    seen, wanted = draw(4, 5, 8), draw(1, 5, 8)
    flat = (
        torch.nn.functional.normalize(seen.flatten(1), dim=1)
        @ torch.nn.functional.normalize(wanted.flatten(1), dim=1).T
    )
    torch.testing.assert_close(token_similarity(seen, wanted), flat[:, 0])
    assert token_similarity(seen, 3 * seen).tolist() == pytest.approx([1] * 4)
    with pytest.raises(ValueError, match=r"got \[4, 5, 8\] and \[2, 5, 8\]"):
        token_similarity(seen, wanted.expand(2, -1, -1))


def test_one_picture_and_one_text_are_a_pair():
    pictures, texts = draw(4, 16), draw(3, 16)
    all_pairs = similarity(pictures, texts)
    assert all_pairs.shape == (4, 3)
    assert torch.equal(similarity(pictures[2:3], texts[1:2]), all_pairs[2:3, 1:2])


def test_clip_score_and_probabilities_in_closed_form():
    assert clip_score(torch.tensor([-1.0, -0.1, 0.0, 0.3, 1.0])).tolist() == pytest.approx(
        [0, 0, 0, 0.75, 2.5]
    )
    torch.testing.assert_close(
        probabilities(torch.tensor([[0.30, 0.30 + math.log(3) / 100]])), torch.tensor([[0.25, 0.75]])
    )
    assert probabilities(torch.tensor([0.2])).tolist() == [1.0]


def test_the_order_does_not_depend_on_the_order_of_the_candidates():
    pictures, text = draw(12, 16), draw(1, 16)
    permutation = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    cosine, shuffled = similarity(pictures, text)[:, 0], similarity(pictures[permutation], text)[:, 0]
    assert torch.equal(shuffled, cosine[permutation])
    assert [int(permutation[i]) for i in best_first(shuffled)] == best_first(cosine)
    assert torch.equal(cosine[best_first(cosine)], cosine.sort(descending=True).values)


def test_equals_keep_their_order_and_few_may_be_kept():
    assert best_first(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0])) == [1, 3, 0, 2, 4]
    assert best_first(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0]), 3) == [1, 3, 0]
    assert best_first(torch.tensor([0.5])) == best_first(torch.tensor([0.5]), 7) == [0]


def test_towers_of_different_models_are_refused():
    with pytest.raises(
        ValueError, match="in 16 numbers and texts in 8: clip and clip_vision come from different models"
    ):
        similarity(draw(2, 16), draw(2, 8))


# The nodes


@pytest.fixture
def rank(nodes, loaded, images):
    """Both nodes on the tiny model."""

    def call(node, **inputs):
        towers = {
            "clip": loaded["clip"],
            "clip_vision": loaded["clip_vision"],
            "image": images.movedim(1, -1),
        }
        return nodes[node](**{**towers, **inputs})["result"]

    return call


def test_pictures_come_best_first(rank, model, images):
    with torch.no_grad():
        cosine = similarity(model.clip.encode_image(images)[:, 0], model.clip.embed_text(TEXTS[1:2]))[:, 0]
    sorted_, report, scores = rank("VD_RankImages", text=TEXTS[1])
    order = best_first(cosine)
    assert torch.equal(sorted_, images.movedim(1, -1)[order]) and order != [0, 1, 2, 3]
    assert scores == pytest.approx(cosine[order].tolist())
    first, *others = report.splitlines()
    assert (
        first.startswith(f"1. picture {order[0] + 1}: cosine {scores[0]:.4f}, CLIPScore ")
        and len(others) == 3
    )
    two, _, best = rank("VD_RankImages", text=TEXTS[1], best=2)
    assert torch.equal(two, sorted_[:2]) and best == scores[:2]


def test_a_shuffled_batch_gives_the_same_pictures(rank, images):
    pictures = images.movedim(1, -1)
    sorted_, _, scores = rank("VD_RankImages", text="red apple", image=pictures)
    again, _, same = rank("VD_RankImages", text="red apple", image=pictures.flip(0))
    assert torch.equal(sorted_, again) and scores == pytest.approx(same)


def test_one_picture_stays_what_it_is(rank, images):
    one = images[:1].movedim(1, -1)
    kept, report, scores = rank("VD_RankImages", text="red apple", image=one)
    assert torch.equal(kept, one) and len(scores) == 1 and report.endswith("probability 1.0000")


def test_texts_come_best_first_by_the_mean_over_the_pictures(rank, model, images):
    with torch.no_grad():
        cosine = similarity(model.clip.encode_image(images)[:, 0], model.clip.embed_text(TEXTS)).mean(dim=0)
    order = best_first(cosine)
    text, texts, report, scores = rank("VD_RankTexts", texts="\n \n".join(TEXTS))
    assert texts == [TEXTS[i] for i in order] and text == "\n".join(texts)
    assert scores == pytest.approx(cosine[order].tolist()) and report.startswith(f"1. {texts[0]}: cosine ")
    assert rank("VD_RankTexts", texts="\n".join(TEXTS), best=1)[1] == texts[:1]


def test_no_text_is_refused(rank):
    with pytest.raises(ValueError, match="no text to encode"):
        rank("VD_RankTexts", texts=" \n")


# The embedded model


@torch.inference_mode()
def test_texts_that_hardly_fit_a_picture_are_marked_as_not_sure(nodes):
    """By the bound in the file: right captions of trained pictures lie above it, those of others below."""
    trained, data = load(MODEL, parts=["clip_text", "clip_vision"]), CaptionedPictures.load(FOLDER)
    assert trained.config.clip.doubt_below == 0.55
    own = data.train[torch.linspace(0, len(data.train) - 1, 24).long()].tolist()
    marks = []
    for i, other in zip(own, own[12:] + own[:12], strict=True):
        texts = "\n".join([data.captions[i], data.captions[other]])
        picture = data.pixels[i : i + 1].movedim(1, -1)
        towers = {"clip": trained.clip, "clip_vision": trained.clip}
        text, _, report, scores = nodes["VD_RankTexts"](**towers, image=picture, texts=texts, best=0)[
            "result"
        ]
        assert "not sure" not in text and [("not sure: " in line) for line in report.splitlines()] == [
            score < 0.55 for score in scores
        ]
        marks.append([f"not sure: {data.captions[n]}:" in report for n in (i, other)])
    right, wrong = torch.tensor(marks).float().mean(dim=0).tolist()
    assert right <= 0.1 and wrong >= 0.7


@pytest.mark.slow
@torch.inference_mode()
def test_the_best_of_eight_captions_of_the_embedded_model_is_right_more_often():
    """pytest tests/vd_core/test_ranking.py -k embedded -rP prints the shares of right names, of any caption
    and of the best."""
    trained, data = load(MODEL), CaptionedPictures.load(FOLDER)
    shares = {}
    for part, indices in (("trained", data.train), ("held out", data.held_out)):
        own = indices[torch.linspace(0, len(indices) - 1, 24).long()]
        pixels, names = data.pixels[own], [data.captions[i].rpartition(",")[0] for i in own]
        seen = trained.encode_image(pixels.repeat_interleave(8, dim=0), null="black")
        latents = torch.zeros(192, trained.config.diffuser.data["text"].channels)
        written = trained.sample("text", [seen], latents, 0, Sampling("dpmpp_2m", steps=20, cfg=2.0))
        texts = trained.text_vae.decode(written, [make_generator(i) for i in range(192)], temperature=0.5)
        right = (
            torch.tensor([text.rpartition(",")[0] == names[i // 8] for i, text in enumerate(texts)])
            .float()
            .reshape(24, 8)
        )
        cosine = similarity(trained.clip.encode_image(pixels)[:, 0], trained.clip.embed_text(texts)).reshape(
            24, 24, 8
        )
        best = cosine.diagonal().T.argmax(dim=1)
        shares[part] = round(float(right.mean()), 3), round(float(right[torch.arange(24), best].mean()), 3)
    print(shares)
    assert (
        shares["trained"][1] > shares["trained"][0] and shares["held out"][1] > shares["held out"][0] + 0.05
    )
