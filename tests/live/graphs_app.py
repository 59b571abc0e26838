"""Graphs of the official app's methods on the real server: name -> Graph. How equal they are is measured by
test_parity_models.py."""

from graph import (
    APPLE,
    CLIP_VISION,
    IMAGE,
    TEXT,
    Graph,
    Node,
    empty,
    empty_text,
    ksampler,
    node,
    picture,
    seen,
)

PHOTO = node("LoadImage", image="strawberry.png")
MASK = node("SolidMask", value=0.5, width=48, height=96)
SQUEEZED = node(
    "VD_Squeeze",
    image=node("ImageScale", image=PHOTO, upscale_method="bilinear", width=48, height=96, crop="disabled"),
    width=64,
    height=64,
    mask=MASK,
)
LOOK = node(
    "VD_ImageContext",
    clip_vision=CLIP_VISION,
    image=SQUEEZED[0],
    focus=0.5,
    weight=1.0,
    unconditional="zeros",
    mask=SQUEEZED[1],
)
STYLE = seen(PHOTO, tokens="style")
PATCHES = seen(PHOTO, tokens="patches")


def official(model, context: Node, latent, fidelity: float) -> Node:
    """A LATENT of the official sampler and noise."""
    inputs = {
        "seed": 20,
        "steps": 5,
        "cfg": 2.0,
        "sampler": "ddim",
        "eta": 0.0,
        "fidelity": fidelity,
        "noise": "official",
    }
    return node(
        "VD_Sampler", model=model, positive=context[0], negative=context[1], latent_image=latent, **inputs
    )


def varied(encoded: Node) -> Node:
    """Image variation with fidelity and colour adjustment."""
    decoded = node("VAEDecode", samples=official(IMAGE[0], LOOK, encoded, 0.5), vae=IMAGE[1])
    return node("PreviewImage", images=node("VD_ColorAdjust", image=decoded, reference=SQUEEZED[0]))


def read(noise: str) -> Node:
    """Captions, hot enough for the noise to be heard."""
    inputs = {
        "seed": 20,
        "temperature": 5.0,
        "top_k": 0,
        "top_p": 1.0,
        "remove_duplicates": True,
        "noise": noise,
    }
    samples = official(TEXT[0], seen(PHOTO, "black"), empty_text(4), 0.0)
    return node("PreviewAny", source=node("VD_TextDecode", text_vae=TEXT[1], samples=samples, **inputs))


ENCODED = node("VD_ImageEncode", pixels=SQUEEZED[0], vae=IMAGE[1], seed=20, batch_size=2)
MEAN = varied(node("VAEEncode", pixels=SQUEEZED[0], vae=IMAGE[1]))

GRAPHS: dict[str, Graph] = {
    "app-variation": Graph(
        "Image variation with fidelity and colours, as the official app", varied(ENCODED), differs=MEAN
    ),
    "app-captions": Graph("Captions with official noise", read("official"), differs=read("per sample")),
    "app-latent-to-ksampler": Graph(
        "Picture to Latent (VD) into KSampler",
        picture(ksampler(IMAGE[0], APPLE, ENCODED, denoise=0.5)),
        differs=picture(ENCODED),
    ),
    "app-style-tokens": Graph(
        "Image Context (VD), tokens style",
        picture(ksampler(IMAGE[0], STYLE, empty())),
        differs=picture(ksampler(IMAGE[0], PATCHES, empty())),
    ),
}
