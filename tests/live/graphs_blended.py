"""Graphs of what lies between contexts, latents and texts, of sheets, and of pictures that explain: name ->
Graph."""

from graph import (
    APPLE,
    CLIP,
    CLIP_VISION,
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
    return node(
        "VD_TextDifference", positive=context[0], negative=context[1], clip=CLIP, **texts, theta=theta
    )


def shown(class_type: str, **inputs) -> Node:
    """A picture that explains."""
    return node("PreviewImage", images=node(class_type, **inputs))


PICTURES = way(STRAWBERRY, ROCKET)
DRAWN = node("VAEDecode", samples=ksampler(MODEL, PICTURES, SAME_NOISE), vae=VAE)
SWEEP = node("VD_Sweep", values="0 0.5 1")
SWEPT = ksampler(MODEL, blend(APPLE, ROCKET, SWEEP[0]), empty())
BETWEEN = node(
    "VD_InterpolateLatents",
    count=3,
    samples_1=node("VAEEncode", pixels=PICTURE, vae=VAE),
    samples_2=node("VAEEncode", pixels=OTHER_PICTURE, vae=VAE),
)
SENTENCES = node(
    "VD_InterpolateLatents",
    count=3,
    samples_1=node("VD_TextEncode", text_vae=TEXT[1], text="red apple, 3d style"),
    samples_2=node("VD_TextEncode", text_vae=TEXT[1], text="yellow star, flat style"),
)
SHARED = node(
    "VD_Sampler",
    model=MODEL,
    positive=PICTURES[0],
    negative=PICTURES[1],
    latent_image=empty(3),
    seed=1,
    steps=4,
    cfg=2.0,
    sampler="dpmpp_2m",
    eta=0.0,
    fidelity=0.0,
    noise="shared",
)

GRAPHS: dict[str, Graph] = {
    "interpolated-pictures": Graph(
        "Interpolate Contexts (VD), LatentBatchSeedBehavior, Sheet with Labels (VD)",
        node(
            "PreviewImage",
            images=node(
                "VD_Sheet", image=DRAWN, columns=3, labels=PICTURES[2], title="From picture to picture"
            ),
        ),
    ),
    "swept-ratio": Graph(
        "Sweep Values (VD) on Blend Contexts (VD), KSampler, Sheet with Labels (VD)",
        shown(
            "VD_Sheet", image=node("VAEDecode", samples=SWEPT, vae=VAE), columns=3, labels=SWEEP[1], title=""
        ),
    ),
    "interpolated-prompts": Graph(
        "Interpolate Contexts (VD) of prompts", picture(ksampler(MODEL, way(APPLE, STAR), empty(3)))
    ),
    "interpolated-blends": Graph(
        "Interpolate Contexts (VD) of blends",
        picture(ksampler(MODEL, way(blend(APPLE, ROCKET, 0.4), blend(STAR, STRAWBERRY, 0.4)), empty(3))),
    ),
    "interpolated-contexts-for-texts": Graph(
        "Interpolate Contexts (VD), text model",
        sentence(ksampler(TEXT[0], way(STRAWBERRY, ROCKET), empty_text(3))),
    ),
    "interpolated-latents": Graph(
        "Interpolate Latents (VD), denoise 0.5", picture(ksampler(MODEL, PICTURES, BETWEEN, denoise=0.5))
    ),
    "interpolated-sentences": Graph("Interpolate Latents (VD) of texts", sentence(SENTENCES)),
    "shared-noise": Graph("Multi-Flow Sampler (VD), shared noise", picture(SHARED)),
    "text-difference": Graph(
        "Turn by Texts (VD)",
        picture(ksampler(MODEL, turned(ROCKET), empty())),
        differs=picture(ksampler(MODEL, ROCKET, empty())),
    ),
    "show-schedule": Graph(
        "Show Schedule (VD)",
        shown("VD_ShowSchedule", model=MODEL, steps=20, sampler="dpmpp_2m"),
        differs=shown("VD_ShowSchedule", model=TEXT[0], steps=20, sampler="ddim"),
    ),
    "show-forward-process": Graph(
        "Show Forward Process (VD)",
        shown("VD_ForwardProcess", model=MODEL, vae=VAE, image=PICTURE, timesteps="0 300 999", seed=1),
        differs=shown(
            "VD_ForwardProcess", model=MODEL, vae=VAE, image=PICTURE, timesteps="0 300 999", seed=2
        ),
    ),
    "show-focus": Graph(
        "Show Focus (VD)",
        shown("VD_FocusSpectrum", clip_vision=CLIP_VISION, image=PICTURE, focus=0.2),
        differs=shown("VD_FocusSpectrum", clip_vision=CLIP_VISION, image=PICTURE, focus=0.8),
    ),
    "show-similarity": Graph(
        "Show Similarity (VD)",
        shown("VD_Similarity", positive_1=STRAWBERRY[0], positive_2=ROCKET[0], image=PICTURE),
        differs=shown("VD_Similarity", positive_1=STRAWBERRY[0], positive_2=APPLE[0], image=PICTURE),
    ),
}
