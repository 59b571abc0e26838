"""Region (VD) and weights in prompts, end to end on the embedded model."""

import pytest
import torch

HALVES = ({"width": 0.5}, {"x": 0.5, "width": 0.5})
PROMPTS = ("sunflower, flat style", "strawberry, 3d style")


@pytest.fixture(scope="module")
def embedded(nodes):
    model, vae = nodes["VD_LoadImageModel"]()
    return {"model": model, "vae": vae, "clip": nodes["VD_LoadClip"]()[0], "vision": nodes["VD_LoadClipVision"]()[0]}


def written(nodes, embedded, text, negative=""):
    return nodes["VD_TextContext"](clip=embedded["clip"], text=text, negative_text=negative)


def placed(nodes, context, **region):
    return nodes["VD_Region"](positive=context[0], negative=context[1], **region)


def blended(nodes, first, second):
    return nodes["VD_Blend"](positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1], ratio=0.5)


def drawn(nodes, embedded, context, width=8, steps=8):
    latent = {"samples": torch.zeros(2, 16, 8, width)}
    inputs = {"model": embedded["model"], "positive": context[0], "negative": context[1], "latent_image": latent}
    samples = nodes["VD_Sampler"](**inputs, seed=1, steps=steps, cfg=2.0, sampler="dpmpp_2m")[0]["samples"]
    return embedded["vae"].decode(samples)


@torch.inference_mode()
def likeness(embedded, pictures, texts):
    """Cosine of pictures [B, H, W, 3] and texts, [B, texts]."""
    seen = embedded["vision"].encode_image(pictures.movedim(-1, 1))[:, 0]
    return torch.nn.functional.normalize(seen, dim=-1) @ embedded["clip"].embed_text(texts).T


def test_each_half_shows_its_own_prompt(nodes, embedded):
    regions = [placed(nodes, written(nodes, embedded, text), **half) for text, half in zip(PROMPTS, HALVES, strict=True)]
    pictures = drawn(nodes, embedded, blended(nodes, *regions), width=16)
    left, right = (likeness(embedded, half, PROMPTS) for half in pictures.split(64, dim=2))
    assert (left[:, 0] > left[:, 1] + 0.1).all() and (right[:, 1] > right[:, 0] + 0.1).all(), (left, right)


def test_a_mask_says_the_same_as_its_box(nodes, embedded):
    mask = torch.zeros(1, 64, 128)
    mask[..., :64] = 1
    ways = [{"mask": mask}, {"width": 0.5}, {"mask": torch.ones(1, 512, 512), "width": 0.5}]
    other = written(nodes, embedded, PROMPTS[1])
    boxes = [blended(nodes, placed(nodes, written(nodes, embedded, PROMPTS[0]), **way), other) for way in ways]
    pictures = [drawn(nodes, embedded, box, width=16, steps=2) for box in boxes]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[1], pictures[2])


def test_the_whole_picture_all_the_time_is_no_region(nodes, embedded):
    context = written(nodes, embedded, PROMPTS[0])
    assert torch.equal(drawn(nodes, embedded, placed(nodes, context), steps=2), drawn(nodes, embedded, context, steps=2))


def test_weights_of_1_change_nothing_and_others_do(nodes, embedded):
    plain, same, other = (
        drawn(nodes, embedded, written(nodes, embedded, text), steps=3)
        for text in ("red apple, 3d style", "red (apple:1), 3d style", "red (apple:4), 3d style")
    )
    assert torch.equal(plain, same) and not torch.equal(plain, other)


def test_a_heavier_prompt_is_followed_more(nodes, embedded):
    """Of two prompts in one, the weight decides which is drawn."""
    likes = []
    for first, second in ((4, 0.1), (0.1, 4)):
        joined = nodes["VD_Join"](
            **{
                f"{side}_{number}": written(nodes, embedded, f"({text}:{weight})")[side == "negative"]
                for number, text, weight in ((1, PROMPTS[0], first), (2, PROMPTS[1], second))
                for side in ("positive", "negative")
            }
        )
        likes.append(likeness(embedded, drawn(nodes, embedded, joined), PROMPTS).mean(dim=0))
    assert likes[0][0] > likes[1][0] and likes[0][1] < likes[1][1], likes


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        ({"width": 0.0}, "must hold some of the picture, got x 0.0, y 0.0, width 0.0"),
        ({"x": 1.0}, "must hold some of the picture"),
        ({"start": 0.7, "end": 0.2}, "got 0.7 to 0.2"),
    ],
)
def test_refusals(nodes, embedded, region, sentence):
    with pytest.raises(ValueError, match=sentence):
        placed(nodes, written(nodes, embedded, "red apple"), **region)
