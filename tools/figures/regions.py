"""Regions, guidance per context and weights in prompts on the embedded model, as figures: python -m
tools.figures.regions"""

import torch

from runner.pack import load_pack

from .nodes import make_functions

HALVES = ({"width": 0.5}, {"x": 0.5, "width": 0.5})
PROMPTS = ("sunflower, flat style", "strawberry, 3d style")


def load(nodes):
    """Load the parts of the embedded model."""
    model, vae = nodes["VD_LoadImageModel"]()
    return {
        "model": model,
        "vae": vae,
        "clip": nodes["VD_LoadClip"]()[0],
        "vision": nodes["VD_LoadClipVision"]()[0],
    }


def encode_text(nodes, embedded, text, negative=""):
    return nodes["VD_TextContext"](clip=embedded["clip"], text=text, negative_text=negative)


def place(nodes, context, **region):
    return nodes["VD_Region"](positive=context[0], negative=context[1], **region)


def blend(nodes, first, second):
    return nodes["VD_Blend"](
        positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1], ratio=0.5
    )


def draw(nodes, embedded, context, width=8, steps=8):
    latent = {"samples": torch.zeros(2, 16, 8, width)}
    inputs = {
        "model": embedded["model"],
        "positive": context[0],
        "negative": context[1],
        "latent_image": latent,
    }
    samples = nodes["VD_Sampler"](**inputs, seed=1, steps=steps, cfg=2.0, sampler="dpmpp_2m")[0]["samples"]
    return embedded["vae"].decode(samples)


@torch.inference_mode()
def measure_likeness(embedded, pictures, texts):
    """Measure cosine of pictures [B, H, W, 3] and texts, [B, texts]."""
    seen = embedded["vision"].encode_image(pictures.movedim(-1, 1))[:, 0]
    return torch.nn.functional.normalize(seen, dim=-1) @ embedded["clip"].embed_text(texts).T


def join_weighted(nodes, embedded, weight):
    """Join two prompts in one, the first of which has a weight."""
    first, second = (
        encode_text(nodes, embedded, f"({PROMPTS[0]}:{weight})"),
        encode_text(nodes, embedded, PROMPTS[1]),
    )
    return nodes["VD_Join"](
        positive_1=first[0], negative_1=first[1], positive_2=second[0], negative_2=second[1]
    )


def blend_guided(nodes, embedded, guidance):
    """Blend two prompts, the first of which has a guidance."""
    first = encode_text(nodes, embedded, PROMPTS[0])
    first = nodes["VD_ContextGuidance"](positive=first[0], negative=first[1], guidance=guidance)
    return blend(nodes, first, encode_text(nodes, embedded, PROMPTS[1]))


def write_figures(nodes, embedded):
    """Write lines for the docs/figures.md."""
    styles = ("3d", "flat", "noto", "line")
    names = ("red apple", "sunflower", "rocket", "banana", "strawberry", "star", "red heart", "pizza")
    texts = [f"{name}, {styles[number % 4]} style" for number, name in enumerate(names)]
    own = {"with regions": 0, "without": 0}
    for first, second in zip(texts, texts[3:] + texts[:3], strict=True):
        contexts = [encode_text(nodes, embedded, text) for text in (first, second)]
        regions = [place(nodes, context, **half) for context, half in zip(contexts, HALVES, strict=True)]
        for way, pair in (("with regions", regions), ("without", contexts)):
            left, right = draw(nodes, embedded, blend(nodes, *pair), width=16, steps=20).split(64, dim=2)
            own[way] += int((measure_likeness(embedded, left, [first, second]).argmax(dim=1) == 0).sum())
            own[way] += int((measure_likeness(embedded, right, [first, second]).argmax(dim=1) == 1).sum())
    yield f"halves that are more like their own prompt than like the other one's, of {4 * len(texts)}: {own}"
    for title, context, values in (
        ("guidance", blend_guided, (0, 0.5, 1, 1.5, 2, 3)),
        ("weight", join_weighted, (0.1, 0.5, 1, 2, 4)),
    ):
        likes = [
            measure_likeness(
                embedded, draw(nodes, embedded, context(nodes, embedded, v), steps=20), PROMPTS[:1]
            )
            .mean()
            .item()
            for v in values
        ]
        yield f"likeness to a prompt by its {title}: " + ", ".join(
            f"{v}: {like:.2f}" for v, like in zip(values, likes, strict=True)
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    functions = make_functions(load_pack())
    print(*write_figures(functions, load(functions)), sep="\n")
