"""Blending that can be trusted: strength, great circles and differences of texts through the nodes, and
measured on the embedded model."""

import pytest
import torch
from rounding import assert_rounded

from tools.figures.blending import measure_strengths, measure_turns
from vd_core.embedded import FOLDER
from vd_core.interpolation import slerp
from vd_core.training.dataset import CaptionedPictures

RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
FIRST, SECOND = (torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


def pairs(first, second):
    return {"positive_1": first[0], "negative_1": first[1], "positive_2": second[0], "negative_2": second[1]}


@pytest.fixture
def seen(nodes, loaded):
    """Pictures -> their contexts."""
    return lambda image, **inputs: nodes["VD_ImageContext"](
        clip_vision=loaded["clip_vision"], image=image, **inputs
    )


@pytest.fixture
def said(nodes, loaded):
    """Return a prompt -> its context."""
    return lambda text: nodes["VD_TextContext"](clip=loaded["clip"], text=text, negative_text="")


def tokens(side):
    return side[0][0]


def test_the_way_between_two_pictures_has_exact_ends_and_mirrors(nodes, seen):
    one, other = seen(FIRST, unconditional="grey"), seen(SECOND, unconditional="black")
    positive, negative, shares = nodes["VD_Interpolate"](**pairs(one, other), count=5)
    assert shares.splitlines() == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    for way, start, end in ((positive, one[0], other[0]), (negative, one[1], other[1])):
        assert torch.equal(tokens(way)[0], tokens(start)[0]) and torch.equal(tokens(way)[4], tokens(end)[0])
        torch.testing.assert_close(tokens(way)[1], slerp(tokens(start)[0], tokens(end)[0], 0.25))
    mirrored = nodes["VD_Interpolate"](**pairs(other, one), count=5)
    torch.testing.assert_close(tokens(mirrored[0]), tokens(positive).flip(0))
    torch.testing.assert_close(tokens(mirrored[1]), tokens(negative).flip(0))


def test_from_a_context_to_itself_is_that_context(nodes, seen):
    one = seen(FIRST)
    positive, negative, _ = nodes["VD_Interpolate"](**pairs(one, one), count=4)
    assert torch.equal(tokens(positive), tokens(one[0]).expand(4, -1, -1)) and not tokens(negative).any()


def test_a_batch_of_contexts_draws_as_each_would_alone(nodes, loaded, seen):
    way = nodes["VD_Interpolate"](**pairs(seen(FIRST), seen(SECOND)), count=3)
    options = {
        "model": loaded["image_model"],
        "steps": 2,
        "seed": 3,
        "cfg": 2.0,
        "eta": 0.5,
        "noise": "shared",
    }
    three = nodes["VD_Sampler"](
        **options, positive=way[0], negative=way[1], latent_image={"samples": torch.zeros(3, 4, 8, 8)}
    )[0]["samples"]
    # from the same noise, wherever it stands in the batch
    for row, end in (
        (0, seen(FIRST)),
        (2, seen(SECOND)),
    ):
        alone = nodes["VD_Sampler"](
            **options, positive=end[0], negative=end[1], latent_image={"samples": torch.zeros(1, 4, 8, 8)}
        )[0]
        assert_rounded(three[row : row + 1], alone["samples"])


def test_blends_are_interpolated_context_by_context(nodes, seen, said):
    first, second = (
        nodes["VD_Blend"](**pairs(said(text), seen(image)), ratio=0.25)
        for text, image in (("red apple", FIRST), ("cat", SECOND))
    )
    positive, _, _ = nodes["VD_Interpolate"](**pairs(first, second), count=2)
    assert positive[0][1]["vd_layout"] == first[0][0][1]["vd_layout"]
    assert torch.equal(tokens(positive), torch.cat([tokens(first[0]), tokens(second[0])]))


def test_weights_of_tokens_change_evenly(nodes, said):
    positive, _, _ = nodes["VD_Interpolate"](**pairs(said("red apple"), said("(red:2) apple")), count=3)
    weights = positive[0][1]["vd_token_weights"]
    assert weights[:, 1].tolist() == [1, 1.5, 2] and torch.equal(weights[0], torch.ones_like(weights[0]))


def test_the_way_between_two_latents_keeps_the_spread_of_noise(nodes):
    first, second = (
        {"samples": torch.randn(1, 16, 64, 64, generator=torch.Generator().manual_seed(seed))}
        for seed in (0, 1)
    )
    way = nodes["VD_InterpolateLatents"](samples_1=first, samples_2=second, count=5)[0]["samples"]
    assert torch.equal(way[0], first["samples"][0]) and torch.equal(way[4], second["samples"][0])
    # halfway, the mean of the two has 0.71
    torch.testing.assert_close(way.std(dim=(1, 2, 3)), torch.ones(5), atol=0.01, rtol=0)
    mirrored = nodes["VD_InterpolateLatents"](samples_1=second, samples_2=first, count=5)[0]["samples"]
    torch.testing.assert_close(mirrored, way.flip(0))
    texts = {"samples": first["samples"][:, :, :1, :1]}
    assert torch.equal(
        nodes["VD_InterpolateLatents"](samples_1=texts, samples_2=texts, count=2)[0]["samples"],
        texts["samples"].expand(2, -1, -1, -1),
    )


def turned(nodes, loaded, context, before, after, **inputs):
    return nodes["VD_TextDifference"](
        positive=context[0],
        negative=context[1],
        clip=loaded["clip"],
        text_before=before,
        text_after=after,
        **inputs,
    )


def test_equal_texts_and_theta_0_leave_a_picture_as_it_is(nodes, loaded, seen):
    context = seen(FIRST)
    for before, after, theta in (("red apple", "red apple", 0.5), ("red apple", "a cat's hat", 0.0)):
        assert torch.equal(
            tokens(turned(nodes, loaded, context, before, after, theta=theta)[0]), tokens(context[0])
        )


def test_a_turn_by_texts_is_the_great_circle_towards_their_difference(nodes, loaded, seen):
    context = seen(FIRST, unconditional="grey")
    positive, negative = turned(nodes, loaded, context, "red apple", "a cat's hat", theta=0.3)
    with torch.inference_mode():
        embedded = loaded["clip"].embed_text(["red apple", "a cat's hat"])
    towards = (embedded[1] - embedded[0]).expand_as(tokens(context[0]))

    def angle(x):
        return torch.cosine_similarity(x, towards, dim=-1).acos()

    torch.testing.assert_close(angle(tokens(positive)), 0.7 * angle(tokens(context[0])), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(tokens(positive).norm(dim=-1), tokens(context[0]).norm(dim=-1))
    assert torch.equal(tokens(negative), tokens(context[1]))


def test_only_the_picture_of_a_blend_is_turned(nodes, loaded, seen, said):
    words, picture = said("red apple"), seen(FIRST)
    mixed = nodes["VD_Blend"](**pairs(words, picture), ratio=0.5)
    positive, _ = turned(nodes, loaded, mixed, "red apple", "a cat's hat")
    text, image = tokens(positive).split([part.count for part in positive[0][1]["vd_layout"]], dim=1)
    assert torch.equal(text, tokens(words[0]))
    assert torch.equal(image, tokens(turned(nodes, loaded, picture, "red apple", "a cat's hat")[0]))


def test_what_cannot_be_blended_is_refused_with_a_sentence(nodes, loaded, seen, said):
    def way(first, second):
        return lambda: nodes["VD_Interpolate"](**pairs(first, second), count=3)

    def between(first, second, count=3):
        return lambda: nodes["VD_InterpolateLatents"](
            samples_1={"samples": first}, samples_2={"samples": second}, count=count
        )

    placed = nodes["VD_Region"](positive=seen(FIRST)[0], negative=seen(FIRST)[1], end=0.5)
    latent = torch.zeros(1, 4, 8, 8)
    for action, sentence in (
        (
            way(said("cat"), seen(FIRST)),
            "got 1.00 text and 1.00 image: to go from one kind to another, blend them",
        ),
        (way(seen(torch.cat([FIRST, SECOND])), seen(FIRST)), "Only two single contexts of one kind and size"),
        (way(placed, placed), "give the interpolated context its region"),
        (between(latent, latent[:, :2]), "Only two single latents of one shape"),
        (between(latent, latent, count=1), "count must be 2 or more, got 1"),
        (lambda: turned(nodes, loaded, said("cat"), "cat", "hat"), "There is no picture to turn"),
        (lambda: turned(nodes, loaded, seen(FIRST), "cat", "hat", theta=1.5), "theta lies between 0"),
    ):
        with pytest.raises(ValueError) as error:
            action()
        assert sentence in str(error.value), str(error.value)


def test_text_strength_on_the_embedded_model():
    found = measure_strengths(4)
    assert found["ratio 0 is the picture alone"] and found["ratio 1 is the text alone"]
    path = found["similarity to the text's picture"]
    assert path == sorted(path) and path[-1] - path[0] > 0.3
    assert found["mean rank correlation with the ratio"] > 0.7


def test_a_turn_by_texts_changes_the_style_on_the_embedded_model():
    found = measure_turns(6)
    assert (
        found["theta 0.5: similarity to the flat picture"]
        > found["theta 0.0: similarity to the flat picture"] + 0.03
    )


def test_the_way_between_inverted_pictures_begins_and_ends_with_them(nodes):
    """unCLIP's interpolation on the embedded model: contexts and noise go from the one to the other
    together."""
    data = CaptionedPictures.load(FOLDER)
    image_model, vae = nodes["VD_LoadImageModel"]()
    clip_vision = nodes["VD_LoadClipVision"]()[0]
    steps = {"steps": 20, "cfg": 1.0}
    ends, noises = [], []
    for caption in ("strawberry, noto style", "rocket, 3d style"):
        picture = data.pixels[data.captions.index(caption)][None].movedim(1, -1)
        context = nodes["VD_ImageContext"](clip_vision=clip_vision, image=picture)
        latent = {"samples": vae.encode(picture)}
        ends.append((context, latent["samples"]))
        inverted = nodes["VD_Invert"](
            model=image_model, positive=context[0], negative=context[1], latent_image=latent, **steps
        )
        noises.append(inverted[0])
    way = nodes["VD_Interpolate"](**pairs(ends[0][0], ends[1][0]), count=3)
    noise = nodes["VD_InterpolateLatents"](samples_1=noises[0], samples_2=noises[1], count=3)[0]
    options = {
        "model": image_model,
        "positive": way[0],
        "negative": way[1],
        "latent_image": noise,
        "start_noise": noise,
        **steps,
    }
    samples = nodes["VD_Sampler"](**options)[0]["samples"]
    for row, (_, latent) in ((0, ends[0]), (2, ends[1])):
        assert (samples[row] - latent[0]).norm() < 0.15 * latent.norm()
    assert all((samples[1] - latent[0]).norm() > 0.4 * latent.norm() for _, latent in ends)
    with pytest.raises(ValueError, match="inverted in 20 steps, the other in None"):
        nodes["VD_InterpolateLatents"](
            samples_1=noises[0], samples_2={"samples": noises[1]["samples"]}, count=3
        )
