"""Graphs of what lies between contexts, latents and texts, and of sheets: name -> Graph."""

from graph import (
    APPLE,
    CLIP,
    IMAGE,
    OTHER_PICTURE,
    PICTURE,
    ROCKET,
    STAR,
    STRAWBERRY,
    TEXT,
    Graph,
    Node,
    blend,
    empty,
    empty_text,
    ksampler,
    node,
    picture,
    sentence,
)

MODEL, VAE = IMAGE[0], IMAGE[1]
SAME_NOISE = node("LatentBatchSeedBehavior", samples=empty(3), seed_behavior="fixed")


def way(first: Node, second: Node, count: int = 3) -> Node:
    """Outputs positive, negative, shares."""
    pairs = {"positive_1": first[0], "negative_1": first[1], "positive_2": second[0], "negative_2": second[1]}
    return node("VD_Interpolate", **pairs, count=count)


def turned(context: Node, theta: float = 0.3) -> Node:
    """Outputs positive, negative."""
    texts = {"text_before": "rocket, 3d style", "text_after": "rocket, flat style"}
    return node("VD_TextDifference", positive=context[0], negative=context[1], clip=CLIP, **texts, theta=theta)


PICTURES = way(STRAWBERRY, ROCKET)
DRAWN = node("VAEDecode", samples=ksampler(MODEL, PICTURES, SAME_NOISE), vae=VAE)
BETWEEN = node("VD_InterpolateLatents", count=3, samples_1=node("VAEEncode", pixels=PICTURE, vae=VAE),
               samples_2=node("VAEEncode", pixels=OTHER_PICTURE, vae=VAE))  # fmt: skip
SENTENCES = node("VD_InterpolateLatents", count=3, samples_1=node("VD_TextEncode", text_vae=TEXT[1], text="red apple, 3d style"),
                 samples_2=node("VD_TextEncode", text_vae=TEXT[1], text="yellow star, flat style"))  # fmt: skip
SHARED = node("VD_Sampler", model=MODEL, positive=PICTURES[0], negative=PICTURES[1], latent_image=empty(3), seed=1, steps=4, cfg=2.0,
              sampler="dpmpp_2m", eta=0.0, fidelity=0.0, noise="shared")  # fmt: skip

GRAPHS: dict[str, Graph] = {
    "interpolated-pictures": Graph(
        "Interpolate Contexts (VD), LatentBatchSeedBehavior, Sheet with Labels (VD)",
        node("PreviewImage", images=node("VD_Sheet", image=DRAWN, columns=3, labels=PICTURES[2], title="From picture to picture")),
    ),
    "interpolated-prompts": Graph("Interpolate Contexts (VD) of prompts", picture(ksampler(MODEL, way(APPLE, STAR), empty(3)))),
    "interpolated-blends": Graph(
        "Interpolate Contexts (VD) of blends",
        picture(ksampler(MODEL, way(blend(APPLE, ROCKET, 0.4), blend(STAR, STRAWBERRY, 0.4)), empty(3))),
    ),
    "interpolated-contexts-for-texts": Graph(
        "Interpolate Contexts (VD), text model", sentence(ksampler(TEXT[0], way(STRAWBERRY, ROCKET), empty_text(3)))
    ),
    "interpolated-latents": Graph("Interpolate Latents (VD), denoise 0.5", picture(ksampler(MODEL, PICTURES, BETWEEN, denoise=0.5))),
    "interpolated-sentences": Graph("Interpolate Latents (VD) of texts", sentence(SENTENCES)),
    "shared-noise": Graph("Multi-Flow Sampler (VD), shared noise", picture(SHARED)),
    "text-difference": Graph(
        "Turn by Texts (VD)",
        picture(ksampler(MODEL, turned(ROCKET), empty())),
        differs=picture(ksampler(MODEL, ROCKET, empty())),
    ),
}
