"""Graphs that cannot work: name -> Graph with a part of the sentence with which this pack refuses it."""

from graph import (
    APPLE,
    CLIP,
    DUAL,
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
    guidance,
    image_model,
    ksampler,
    node,
    picture,
    prompt,
    region,
    seen,
    sentence,
    text_model,
)

NO_CONTEXT = "does not come from a context node of Versatile Diffusion"
NO_LAYERS = "was loaded without the layers for"
TEXT_LATENT = "the text model needs an Empty Text Latent (VD)"
IMAGE_LATENT = "the image model needs an Empty Latent Image"
NO_BLOCKS = "the text model has none"
NOT_OURS = "model must be a Versatile Diffusion model"

STOCK = node("VDLive_StockModel")
SD_PROMPT = node("CLIPTextEncode", clip=CLIP, text="red apple")
WRITTEN = node("VD_TextEncode", text_vae=TEXT[1], text="red apple, 3d style")
DRAWN = node("VAEEncode", pixels=PICTURE, vae=IMAGE[1])
MASK = node("SolidMask", value=1.0, width=64, height=64)
CONCATENATED = node("ConditioningConcat", conditioning_to=APPLE[0], conditioning_from=STAR[0])
PAIR = node(
    "PairConditioningSetProperties",
    positive_NEW=SD_PROMPT,
    negative_NEW=SD_PROMPT,
    strength=1.0,
    set_cond_area="default",
)
SD_BLEND = node(
    "VD_Blend",
    positive_1=SD_PROMPT,
    negative_1=SD_PROMPT,
    positive_2=ROCKET[0],
    negative_2=ROCKET[1],
    ratio=0.5,
)
CROSSED = node(
    "VD_Blend",
    positive_1=APPLE[0],
    negative_1=ROCKET[1],
    positive_2=ROCKET[0],
    negative_2=ROCKET[1],
    ratio=0.5,
)
TWO, THREE = (
    node("ImageBatch", image1=PICTURE, image2=OTHER_PICTURE),
    node("RepeatImageBatch", image=PICTURE, amount=3),
)
AREA = node("ConditioningSetArea", conditioning=ROCKET[0], width=64, height=64, x=64, y=0, strength=1.0)
BOX = region(ROCKET, width=0.5)
BOX_AND_AREA = node("ConditioningSetArea", conditioning=BOX[0], width=64, height=64, x=64, y=0, strength=1.0)
DEEP_SHRINK = {
    "block_number": 3,
    "downscale_factor": 2.0,
    "start_percent": 0.0,
    "end_percent": 0.35,
    "downscale_after_skip": True,
    "downscale_method": "bicubic",
    "upscale_method": "bicubic",
}


def image(context: Node = APPLE, latent=None, model=IMAGE[0], **changes) -> Node:
    """A picture through KSampler."""
    return picture(ksampler(model, context, latent or empty(), **changes))


def text(context: Node = ROCKET, latent=None, model=TEXT[0], **changes) -> Node:
    """Sentences through KSampler."""
    return sentence(ksampler(model, context, latent or empty_text(), **changes))


def patched(class_type: str, **inputs) -> Node:
    """Sentences of the text model after a node that patches it."""
    return text(model=node(class_type, model=TEXT[0], **inputs))


def masked(bounds: str) -> Node:
    """Sentences where a mask is."""
    return text(
        positive=node(
            "ConditioningSetMask", conditioning=ROCKET[0], mask=MASK, strength=1.0, set_cond_area=bounds
        )
    )


def multi_flow(model, latent, context: Node = APPLE) -> Node:
    """A latent through the Multi-Flow Sampler."""
    inputs = {
        "seed": 1,
        "steps": 4,
        "cfg": 2.0,
        "sampler": "ddim",
        "eta": 0.0,
        "fidelity": 0.0,
        "noise": "per sample",
    }
    return node(
        "VD_Sampler", model=model, positive=context[0], negative=context[1], latent_image=latent, **inputs
    )


def from_inverted(steps: int) -> Node:
    """A latent sampled from an inverted one, in 4 steps."""
    wires = {"model": IMAGE[0], "positive": APPLE[0], "negative": APPLE[1], "latent_image": DRAWN}
    sampler = multi_flow(IMAGE[0], DRAWN)
    return node("VD_Sampler", **sampler.inputs, start_noise=node("VD_Invert", **wires, steps=steps, cfg=1.0))


SHIFT = {"latent_image": DRAWN, "noisy": 1.0, "clean": 1.0, "trained_side": 0}
TIE = {"latent_image": DRAWN, "factor": 2, "strength": 1.0, "end": 1.0}


def official(scheduled) -> Node:
    """SamplerCustom with the official DDIM of a model."""
    ddim = node("VD_OfficialDDIM", model=scheduled, steps=4, eta=0.0)
    inputs = {
        "model": IMAGE[0],
        "add_noise": True,
        "noise_seed": 1,
        "cfg": 2.0,
        "positive": APPLE[0],
        "negative": APPLE[1],
    }
    return picture(node("SamplerCustom", sampler=ddim[0], sigmas=ddim[1], latent_image=empty(), **inputs))


def controlled() -> Node:
    """Sentences under a ControlNet."""
    net = node("VDLive_ControlNet", model=IMAGE[0])
    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "image": OTHER_PICTURE}
    return text(
        node("ControlNetApplyAdvanced", positive=APPLE[0], negative=APPLE[1], control_net=net, **inputs)
    )


def boxed() -> Node:
    """Sentences with a GLIGEN box."""
    net = node("GLIGENLoader", gligen_name="gligen.safetensors")
    box = {"text": "yellow star", "width": 32, "height": 32, "x": 16, "y": 16}
    return text(
        APPLE,
        positive=node(
            "GLIGENTextBoxApply", conditioning_to=APPLE[0], clip=CLIP, gligen_textbox_model=net, **box
        ),
    )


ONLY_IMAGE, ONLY_TEXT = image_model("image")[0], image_model("text")[0]

STEERING = {"vae": IMAGE[1], "image": PICTURE, "strength": 0.1, "start": 0.0, "end": 1.0, "gradient": "exact"}
STEERED_TEXT = node("VD_SteerByColor", model=TEXT[0], **STEERING)
STEERED = ksampler(node("VD_SteerToPicture", model=IMAGE[0], **STEERING), APPLE, empty(width=96, height=96))

GRAPHS: dict[str, Graph] = {
    "steer-text-model": Graph(
        "Steer by Colours (VD), text model", text(model=STEERED_TEXT), "pictures only: connect image_model"
    ),
    "steer-other-size": Graph(
        "Steer to Picture (VD), another size", picture(STEERED), "in the size of the samples"
    ),
    "refused-guidance-cfg-1": Graph(
        "Guidance per Context at cfg 1", image(guidance(DUAL, 0.5), cfg=1.0), "needs a cfg other than 1"
    ),
    "refused-guidance-crossed": Graph(
        "Guidance per Context on positive alone", image(guidance(DUAL, 0.5), negative=DUAL[1]), "wire both"
    ),
    "refused-region-text": Graph("Region with a box, on texts", text(BOX), "works on pictures only"),
    "refused-region-twice": Graph("Region after Region", image(region(BOX, x=0.5)), "has a region already"),
    "refused-region-area": Graph(
        "Region and area", image(BOX, empty(1, 128), positive=BOX_AND_AREA), "cannot get an area too"
    ),
    "refused-region-empty": Graph(
        "Region of no width", image(region(ROCKET, width=0.0)), "must hold some of the picture"
    ),
    "refused-region-stock": Graph(
        "Region of a stock conditioning", image(region(PAIR)), "works on contexts of Versatile Diffusion"
    ),
    "refused-prompt-weight": Graph(
        "A weight below 0", image(prompt("red (apple:-1)")), "must be numbers ≥ 0"
    ),
    "sd-prompt": Graph("CLIP Text Encode as positive", image(positive=SD_PROMPT), NO_CONTEXT),
    "sd-negative": Graph("CLIP Text Encode as negative", image(negative=SD_PROMPT), NO_CONTEXT),
    "sd-prompt-text-model": Graph(
        "CLIP Text Encode into the text model", text(positive=SD_PROMPT), NO_CONTEXT
    ),
    "sd-prompt-blended": Graph(
        "CLIP Text Encode into Blend", image(SD_BLEND), "must come from one of the context nodes"
    ),
    "blend-crossed": Graph(
        "Blend of a positive with another context's negative",
        image(CROSSED),
        "must come from the same context",
    ),
    "concat": Graph(
        "ConditioningConcat",
        image(positive=CONCATENATED),
        "use Join Contexts (VD) or Blend Contexts (VD) instead",
    ),
    "batch-mismatch": Graph(
        "Blend of 2 pictures with 3", image(blend(seen(TWO), seen(THREE), 0.5)), "use one, or as many of each"
    ),
    "image-latent-text-model": Graph(
        "Empty Latent Image into the text model", text(latent=empty()), TEXT_LATENT
    ),
    "encoded-picture-text-model": Graph(
        "Encoded picture into the text model", text(latent=DRAWN, denoise=0.5), TEXT_LATENT
    ),
    "text-latent-image-model": Graph(
        "Empty Text Latent into the image model", image(latent=empty_text()), IMAGE_LATENT
    ),
    "encoded-text-image-model": Graph(
        "Encoded sentence into the image model", image(latent=WRITTEN, denoise=0.5), IMAGE_LATENT
    ),
    "multi-flow-image-latent": Graph(
        "Multi-Flow Sampler: picture into text", sentence(multi_flow(TEXT[0], empty())), TEXT_LATENT
    ),
    "multi-flow-text-latent": Graph(
        "Multi-Flow Sampler: text into picture", picture(multi_flow(IMAGE[0], WRITTEN)), IMAGE_LATENT
    ),
    "multi-flow-stock-model": Graph(
        "Multi-Flow Sampler on Stable Diffusion", picture(multi_flow(STOCK, empty())), NOT_OURS
    ),
    "official-ddim-stock-model": Graph("Official DDIM of Stable Diffusion", official(STOCK), NOT_OURS),
    "decode-picture-as-text": Graph(
        "Latent to Text of a picture", sentence(ksampler(IMAGE[0], APPLE, empty())), "with VAE Decode"
    ),
    "only-image-layers-text": Graph("contexts: image, given a text", image(model=ONLY_IMAGE), NO_LAYERS),
    "only-image-layers-dual": Graph(
        "contexts: image, given a blend", image(DUAL, model=ONLY_IMAGE), NO_LAYERS
    ),
    "only-text-layers-image": Graph(
        "contexts: text, given a picture", image(STRAWBERRY, model=ONLY_TEXT), NO_LAYERS
    ),
    "only-text-layers-multi-flow": Graph(
        "The same, Multi-Flow Sampler", picture(multi_flow(ONLY_TEXT, empty(), ROCKET)), NO_LAYERS
    ),
    "only-text-layers-text-model": Graph(
        "The same, text model", text(model=text_model("text")[0]), NO_LAYERS
    ),
    "text-pag": Graph(
        "PerturbedAttentionGuidance, text model", patched("PerturbedAttentionGuidance", scale=3.0), NO_BLOCKS
    ),
    "text-sag": Graph(
        "SelfAttentionGuidance, text model",
        patched("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
        NO_BLOCKS,
    ),
    "text-freeu": Graph(
        "FreeU_V2, text model", patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), NO_BLOCKS
    ),
    "text-hypertile": Graph(
        "HyperTile, text model",
        patched("HyperTile", tile_size=32, swap_size=2, max_depth=0, scale_depth=False),
        NO_BLOCKS,
    ),
    "text-tome": Graph("TomePatchModel, text model", patched("TomePatchModel", ratio=0.3), NO_BLOCKS),
    "text-deep-shrink": Graph(
        "PatchModelAddDownscale, text model", patched("PatchModelAddDownscale", **DEEP_SHRINK), NO_BLOCKS
    ),
    "text-ipadapter": Graph(
        "Attention patch, text model", patched("VDLive_AttentionPatches", way="attn2 replace"), NO_BLOCKS
    ),
    "text-shift": Graph(
        "Resolution Shift (VD), text model", patched("VD_ResolutionShift", **SHIFT), "works on pictures only"
    ),
    "text-tie": Graph(
        "Low-Pass Guidance (VD), text model", patched("VD_LowPassTie", **TIE), "works on pictures only"
    ),
    "tie-of-another-size": Graph(
        "Low-Pass Guidance (VD) to a small latent",
        image(model=node("VD_LowPassTie", model=IMAGE[0], **TIE), latent=empty(1, 128, 128)),
        "as large",
    ),
    "inverted-in-other-steps": Graph(
        "Invert Latent (VD) in 6 steps, sampled in 4", picture(from_inverted(6)), "let both have the same"
    ),
    "text-controlnet": Graph("ControlNet, text model", controlled(), "A ControlNet works on pictures only"),
    "text-gligen": Graph("GLIGEN, text model", boxed(), "GLIGEN works on pictures only"),
    "text-area": Graph(
        "ConditioningSetArea, text model", text(positive=AREA), "An area works on pictures only"
    ),
    "text-mask": Graph("ConditioningSetMask, text model", masked("default"), "A mask works on pictures only"),
    "text-mask-bounds": Graph(
        "ConditioningSetMask with bounds, text model", masked("mask bounds"), "works on pictures only"
    ),
}
