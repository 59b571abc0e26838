"""Region (VD), guidance per context and weights in prompts, end to end on the embedded model.

PYTHONPATH=tests python -m tests.nodes.test_regions prints the figures of docs/figures.md.
"""

import pytest
import torch

HALVES = ({"width": 0.5}, {"x": 0.5, "width": 0.5})
PROMPTS = ("sunflower, flat style", "strawberry, 3d style")


@pytest.fixture(scope="module")
def embedded(nodes):
    return loaded(nodes)


def loaded(nodes):
    """The parts of the embedded model."""
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


def weighted(nodes, embedded, weight):
    """Two prompts in one, the first of which has a weight."""
    first, second = written(nodes, embedded, f"({PROMPTS[0]}:{weight})"), written(nodes, embedded, PROMPTS[1])
    return nodes["VD_Join"](positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1])


def guided(nodes, embedded, guidance):
    """Two prompts blended, the first of which has a guidance."""
    first = written(nodes, embedded, PROMPTS[0])
    first = nodes["VD_ContextGuidance"](positive=first[0], negative=first[1], guidance=guidance)
    return blended(nodes, first, written(nodes, embedded, PROMPTS[1]))


@pytest.mark.parametrize(("context", "values"), [(weighted, (0.1, 4)), (guided, (0, 3))])
def test_a_stronger_prompt_is_followed_more(nodes, embedded, context, values):
    """Of two prompts, the weight or the guidance of the first decides which is drawn."""
    low, high = (likeness(embedded, drawn(nodes, embedded, context(nodes, embedded, value)), PROMPTS).mean(dim=0) for value in values)
    assert high[0] > low[0] and high[1] < low[1], (low, high)


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


def figures(nodes, embedded):
    """Lines for the docs/figures.md."""
    styles = ("3d", "flat", "noto", "line")
    names = ("red apple", "sunflower", "rocket", "banana", "strawberry", "star", "red heart", "pizza")
    texts = [f"{name}, {styles[number % 4]} style" for number, name in enumerate(names)]
    own = {"with regions": 0, "without": 0}
    for first, second in zip(texts, texts[3:] + texts[:3], strict=True):
        contexts = [written(nodes, embedded, text) for text in (first, second)]
        regions = [placed(nodes, context, **half) for context, half in zip(contexts, HALVES, strict=True)]
        for way, pair in (("with regions", regions), ("without", contexts)):
            left, right = drawn(nodes, embedded, blended(nodes, *pair), width=16, steps=20).split(64, dim=2)
            own[way] += int((likeness(embedded, left, [first, second]).argmax(dim=1) == 0).sum())
            own[way] += int((likeness(embedded, right, [first, second]).argmax(dim=1) == 1).sum())
    yield f"halves that are more like their own prompt than like the other one's, of {4 * len(texts)}: {own}"
    for title, context, values in (("guidance", guided, (0, 0.5, 1, 1.5, 2, 3)), ("weight", weighted, (0.1, 0.5, 1, 2, 4))):
        likes = [
            likeness(embedded, drawn(nodes, embedded, context(nodes, embedded, v), steps=20), PROMPTS[:1]).mean().item() for v in values
        ]
        yield f"likeness to a prompt by its {title}: " + ", ".join(f"{v}: {like:.2f}" for v, like in zip(values, likes, strict=True))


if __name__ == "__main__":
    from conftest import functions_of

    from runner.pack import load_pack

    torch.set_num_threads(1)
    functions = functions_of(load_pack())
    print(*figures(functions, loaded(functions)), sep="\n")
