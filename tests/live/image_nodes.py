"""What the graphs around the image model are made of."""

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
    Node,
    blend,
    empty,
    guidance,
    image_model,
    ksampler,
    node,
    picture,
    prompt,
    region,
    seen,
)

MODEL, VAE = IMAGE[0], IMAGE[1]
PLAIN = picture(ksampler(MODEL, APPLE, empty()))
PLAIN_DUAL = picture(ksampler(MODEL, DUAL, empty()))
MASK = node(
    "MaskComposite",
    destination=node("SolidMask", value=0.0, width=64, height=64),
    x=32,
    y=0,
    operation="add",
    source=node("SolidMask", value=1.0, width=32, height=64),
)
ENCODED = node("VAEEncode", pixels=PICTURE, vae=VAE)
NOISE = node("RandomNoise", noise_seed=1)
EULER = node("KSamplerSelect", sampler_name="euler")


def patched(class_type: str, context: Node = APPLE, **inputs) -> Node:
    """Return a picture of the model after a node that patches it."""
    return picture(ksampler(node(class_type, model=MODEL, **inputs), context, empty()))


def sampled(model=MODEL, context: Node = APPLE, latent=None, vae=VAE, **changes) -> Node:
    """Return a picture through KSampler."""
    return picture(ksampler(model, context, latent or empty(), **changes), vae)


def guided(class_type: str, sampler=EULER, sigmas=None, latent=None, **inputs) -> Node:
    """Return a picture through SamplerCustomAdvanced with that guider."""
    sigmas = sigmas or node("BasicScheduler", model=MODEL, scheduler="normal", steps=4, denoise=1.0)
    guider = node(class_type, model=MODEL, **inputs)
    return picture(
        node(
            "SamplerCustomAdvanced",
            noise=NOISE,
            guider=guider,
            sampler=sampler,
            sigmas=sigmas,
            latent_image=latent or empty(),
        )
    )


def cond(class_type: str, conditioning, **inputs) -> Node:
    """Return a stock node that changes a conditioning."""
    return node(class_type, conditioning=conditioning, **inputs)


def both(first, second) -> Node:
    """Two conditionings side by side."""
    return node("ConditioningCombine", conditioning_1=first, conditioning_2=second)


def area(conditioning, x: float) -> Node:
    """One half of the picture."""
    return cond(
        "ConditioningSetAreaPercentage", conditioning, width=0.5, height=1.0, x=x, y=0.0, strength=1.0
    )


def masked(conditioning, mask) -> Node:
    """Where the mask is."""
    return cond("ConditioningSetMask", conditioning, mask=mask, strength=1.0, set_cond_area="default")


def official(**inputs) -> Node:
    """Make a node that outputs SAMPLER, SIGMAS."""
    return node("VD_OfficialDDIM", model=MODEL, steps=5, eta=0.0, **inputs)


def controlled(context: Node, net: Node) -> Node:
    """Return a picture under a ControlNet."""
    inputs = {"strength": 0.6, "start_percent": 0.0, "end_percent": 1.0}
    applied = node(
        "ControlNetApplyAdvanced",
        positive=context[0],
        negative=context[1],
        control_net=net,
        image=OTHER_PICTURE,
        **inputs,
    )
    return sampled(context=applied)


def lora(name: str, context: Node) -> Node:
    """Return a picture with a LoRA."""
    return patched("LoraLoaderModelOnly", context, lora_name=f"{name}.safetensors", strength_model=1.0)


def boxed(context: Node) -> Node:
    """Return a picture with a GLIGEN box."""
    net = node("GLIGENLoader", gligen_name="gligen.safetensors")
    box = {"text": "yellow star", "width": 32, "height": 32, "x": 16, "y": 16}
    applied = node(
        "GLIGENTextBoxApply", conditioning_to=context[0], clip=CLIP, gligen_textbox_model=net, **box
    )
    return sampled(positive=applied, context=context)


INVERTED = node("InvertMask", mask=MASK)
NET, CONTROL_LORA = (
    node("VDLive_ControlNet", model=MODEL),
    node("ControlNetLoader", control_net_name="control_lora.safetensors"),
)
DDIM = official()
DDIM_PAIR = DDIM[0], DDIM[1]
SCHEDULED = node("BasicScheduler", model=MODEL, scheduler="normal", steps=4, denoise=1.0)
HOOKS = node("CreateHookLora", lora_name="kohya.safetensors", strength_model=1.0, strength_clip=0.0)
CLIP_HOOKED = node(
    "VD_TextContext",
    clip=node("SetClipHooks", clip=CLIP, apply_to_conds=True, schedule_clip=False, hooks=HOOKS),
    text="red apple, 3d style",
    negative_text="",
)
HOOKED = node(
    "PairConditioningSetProperties",
    positive_NEW=APPLE[0],
    negative_NEW=APPLE[1],
    strength=1.0,
    set_cond_area="default",
    hooks=HOOKS,
)
FIRST_STAGE = node(
    "KSamplerAdvanced",
    model=MODEL,
    add_noise="enable",
    noise_seed=1,
    steps=6,
    cfg=2.0,
    sampler_name="euler",
    scheduler="normal",
    positive=APPLE[0],
    negative=APPLE[1],
    latent_image=empty(),
    start_at_step=0,
    end_at_step=3,
    return_with_leftover_noise="enable",
)
SECOND_STAGE = node(
    "KSamplerAdvanced",
    **{
        **FIRST_STAGE.inputs,
        "add_noise": "disable",
        "latent_image": FIRST_STAGE,
        "start_at_step": 3,
        "end_at_step": 6,
        "return_with_leftover_noise": "disable",
    },
)
MULTI_FLOW = node(
    "VD_Sampler",
    model=MODEL,
    positive=DUAL[0],
    negative=DUAL[1],
    latent_image=empty(2),
    seed=1,
    steps=4,
    cfg=2.0,
    sampler="ddim",
    eta=0.0,
    fidelity=0.0,
    noise="per sample",
)
CUSTOM = node(
    "SamplerCustom",
    model=MODEL,
    add_noise=True,
    noise_seed=1,
    cfg=2.0,
    positive=APPLE[0],
    negative=APPLE[1],
    sampler=DDIM[0],
    sigmas=DDIM[1],
    latent_image=empty(),
)
INPAINT = node(
    "InpaintModelConditioning",
    positive=STAR[0],
    negative=STAR[1],
    vae=VAE,
    pixels=PICTURE,
    mask=MASK,
    noise_mask=True,
)
SEPARATE = {
    "cond1": APPLE[0],
    "cond2": ROCKET[0],
    "negative": APPLE[1],
    "cfg_conds": 2.0,
    "cfg_cond2_negative": 2.0,
    "style": "regular",
}
OUTPAINTED = node("SetLatentNoiseMask", samples=ENCODED, mask=MASK)
TWO_PICTURES = node("ImageBatch", image1=PICTURE, image2=OTHER_PICTURE)


def pair(context: Node) -> dict:
    """Return the inputs positive and negative."""
    return {"positive": context[0], "negative": context[1]}


LEFT, RIGHT = region(APPLE, width=0.5), region(ROCKET, x=0.5, width=0.5)
REGIONAL = blend(LEFT, RIGHT, 0.5)
EARLY = blend(region(APPLE, end=0.5), region(ROCKET, start=0.5), 0.65)
OWN_GUIDANCE = blend(guidance(APPLE, 2.0), guidance(ROCKET, 0.5), 0.65)
EMPHATIC = prompt("red (apple:0), (3d style:3)", "(flat:1.5)")
JOINED = node(
    "VD_Join",
    positive_1=EMPHATIC[0],
    negative_1=EMPHATIC[1],
    positive_2=STAR[0],
    negative_2=STAR[1],
    mode="concatenate",
    share=0.5,
)
TWO_DUAL = blend(APPLE, seen(TWO_PICTURES), 0.5)
ONE_PICTURE = {"model": MODEL, "positive": STRAWBERRY[0], "negative": STRAWBERRY[1], "steps": 10, "cfg": 1.0}
BACKWARDS = node("VD_Invert", **ONE_PICTURE, latent_image=ENCODED)
AGAIN = {**MULTI_FLOW.inputs, **ONE_PICTURE, "latent_image": ENCODED}
FROM_INVERTED = node("VD_Sampler", **AGAIN, start_noise=BACKWARDS)
VARIED = node("VD_Sampler", **{**AGAIN, "eta": 0.6, "latent_image": empty(3)}, start_noise=BACKWARDS)
UNSAMPLED = node(
    "KSamplerAdvanced",
    **{
        **FIRST_STAGE.inputs,
        **ONE_PICTURE,
        "add_noise": "disable",
        "sampler_name": "ddim",
        "scheduler": "ddim_uniform",
        "latent_image": BACKWARDS,
        "start_at_step": 0,
        "end_at_step": 10,
        "return_with_leftover_noise": "disable",
    },
)
LARGE = empty(1, 128, 128)
SHIFTED = node("VD_ResolutionShift", model=MODEL, latent_image=LARGE, noisy=1.0, clean=1.0, trained_side=0)
ENLARGED = node(
    "VAEEncode", pixels=node("ImageScaleBy", image=PICTURE, upscale_method="bicubic", scale_by=2.0), vae=VAE
)
TIED = node("VD_LowPassTie", model=MODEL, latent_image=ENLARGED, factor=2, strength=1.0, end=0.9)
SECOND_PASS = {**MULTI_FLOW.inputs, "latent_image": ENLARGED, "fidelity": 0.5}
UPSCALED = node(
    "LatentUpscale",
    samples=ksampler(MODEL, APPLE, empty()),
    upscale_method="bilinear",
    width=96,
    height=96,
    crop="disabled",
)
BF16 = image_model(weight_dtype="bf16")[0]
LOW, HIGH = {"start": 0.0, "end": 0.5}, {"start": 0.5, "end": 1.0}
TIMED = both(
    cond("ConditioningSetTimestepRange", ROCKET[0], **LOW),
    cond("ConditioningSetTimestepRange", APPLE[0], **HIGH),
)
AVERAGED = node(
    "ConditioningAverage", conditioning_to=APPLE[0], conditioning_from=STAR[0], conditioning_to_strength=0.5
)
