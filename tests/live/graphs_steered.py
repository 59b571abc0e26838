"""Graphs of what is steered by energies: name -> Graph."""

from graph import (
    APPLE,
    CLIP,
    CLIP_VISION,
    DUAL,
    IMAGE,
    OTHER_PICTURE,
    PICTURE,
    ROCKET,
    Graph,
    Node,
    empty,
    image_model,
    ksampler,
    node,
    picture,
)
from image_nodes import ENCODED, EULER, HOOKED, MASK, NET, NOISE, SCHEDULED, area, both

MODEL, VAE = IMAGE[0], IMAGE[1]
USUAL = {"start": 0.0, "end": 1.0, "gradient": "exact"}
FAST = {"gradient": "fast"}
CONTROLLED = node(
    "ControlNetApplyAdvanced",
    positive=APPLE[0],
    negative=APPLE[1],
    control_net=NET,
    image=OTHER_PICTURE,
    strength=0.6,
    start_percent=0.0,
    end_percent=1.0,
)


def by_clip(model=MODEL, **changes) -> Node:
    """A MODEL that is steered to a text."""
    inputs = {
        "vae": VAE,
        "clip_vision": CLIP_VISION,
        "clip": CLIP,
        "text": "yellow star, flat style",
        "strength": 0.1,
        **USUAL,
    }
    return node("VD_SteerByClip", model=model, **{**inputs, **changes})


def by_color(model=MODEL, **changes) -> Node:
    """A MODEL that is steered to the colours of a picture."""
    return node(
        "VD_SteerByColor",
        model=model,
        **{"vae": VAE, "image": OTHER_PICTURE, "strength": 0.2, **USUAL, **changes},
    )


def to_picture(model=MODEL, **changes) -> Node:
    """A MODEL that is steered to a half of a picture."""
    return node(
        "VD_SteerToPicture",
        model=model,
        **{"vae": VAE, "image": PICTURE, "mask": MASK, "strength": 0.3, **USUAL, **changes},
    )


def seen(**changes) -> Node:
    """A MODEL that is steered to what a picture shows."""
    inputs = {
        "vae": VAE,
        "clip_vision": CLIP_VISION,
        "text": "",
        "image": OTHER_PICTURE,
        "strength": 0.1,
        **USUAL,
        **changes,
    }
    return node("VD_SteerByClip", model=MODEL, **inputs)


def sampled(model, context: Node = APPLE, latent=None, **changes) -> Node:
    """A picture through KSampler."""
    return picture(ksampler(model, context, latent or empty(), **changes))


def patched(class_type: str, **inputs) -> Node:
    """A picture of a model that another node patches."""
    return sampled(by_color(node(class_type, model=MODEL, **inputs)))


def advanced(model) -> Node:
    """A picture through SamplerCustomAdvanced and DualCFGGuider."""
    guider = node(
        "DualCFGGuider",
        model=model,
        cond1=APPLE[0],
        cond2=ROCKET[0],
        negative=APPLE[1],
        cfg_conds=2.0,
        cfg_cond2_negative=2.0,
        style="regular",
    )
    return picture(
        node(
            "SamplerCustomAdvanced",
            noise=NOISE,
            guider=guider,
            sampler=EULER,
            sigmas=SCHEDULED,
            latent_image=empty(),
        )
    )


def multi_flow(model) -> Node:
    """A picture through the multi-flow sampler."""
    inputs = {
        "seed": 1,
        "steps": 4,
        "cfg": 2.0,
        "sampler": "unipc",
        "eta": 0.0,
        "fidelity": 0.0,
        "noise": "per sample",
    }
    return picture(
        node("VD_Sampler", model=model, positive=DUAL[0], negative=DUAL[1], latent_image=empty(2), **inputs)
    )


PLAIN = sampled(MODEL)
GRAPHS: dict[str, Graph] = {
    "steer-clip-text": Graph("Steer by CLIP (VD), a text", sampled(by_clip()), differs=PLAIN),
    "steer-clip-picture": Graph("Steer by CLIP (VD), a picture", sampled(seen()), differs=PLAIN),
    "steer-colour": Graph("Steer by Colours (VD)", sampled(by_color()), differs=PLAIN),
    "steer-picture": Graph("Steer to Picture (VD)", sampled(to_picture()), differs=PLAIN),
    "steer-fast": Graph(
        "All three, fast gradient",
        sampled(by_clip(by_color(to_picture(gradient="fast"), gradient="fast"), gradient="fast")),
    ),
    "steer-all": Graph(
        "All three, exact gradient",
        sampled(by_clip(by_color(to_picture()))),
        differs=sampled(by_color(to_picture())),
    ),
    "steer-dual-context": Graph(
        "Dual context, Multi-Flow Sampler (VD)", multi_flow(by_color()), differs=multi_flow(MODEL)
    ),
    "steer-custom": Graph(
        "SamplerCustomAdvanced, DualCFGGuider", advanced(by_color()), differs=advanced(MODEL)
    ),
    "steer-sde": Graph("KSampler dpmpp_sde", sampled(by_color(), sampler_name="dpmpp_sde")),
    "steer-controlnet": Graph(
        "ControlNet", sampled(by_color(), CONTROLLED), differs=sampled(MODEL, CONTROLLED)
    ),
    "steer-areas": Graph(
        "Areas", sampled(by_color(), positive=both(area(APPLE[0], 0.0), area(ROCKET[0], 0.5)))
    ),
    "steer-lora-hook": Graph("CreateHookLora", sampled(by_color(), HOOKED)),
    "steer-inpaint": Graph(
        "SetLatentNoiseMask",
        sampled(by_color(), latent=node("SetLatentNoiseMask", samples=ENCODED, mask=MASK), denoise=0.8),
    ),
    "steer-lora": Graph(
        "LoraLoaderModelOnly",
        patched("LoraLoaderModelOnly", lora_name="kohya.safetensors", strength_model=1.0),
    ),
    "steer-hypertile": Graph(
        "HyperTile", patched("HyperTile", tile_size=32, swap_size=2, max_depth=0, scale_depth=False)
    ),
    "steer-freeu": Graph("FreeU_V2", patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)),
    "steer-pag": Graph("PerturbedAttentionGuidance", patched("PerturbedAttentionGuidance", scale=3.0)),
    "steer-rescale-cfg": Graph("RescaleCFG", patched("RescaleCFG", multiplier=0.7)),
    **{
        f"steer-weights-{dtype}": Graph(
            f"weight_dtype {dtype}", sampled(by_color(image_model(weight_dtype=dtype)[0]))
        )
        for dtype in ("bf16", "fp16", "fp8_e4m3fn")
    },
}
