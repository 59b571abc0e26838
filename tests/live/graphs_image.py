"""Graphs of stock nodes around the image model, its samplers, guiders and blends: name -> Graph."""

from graph import (
    APPLE,
    DUAL,
    ROCKET,
    STAR,
    STRAWBERRY,
    Graph,
    blend,
    empty,
    node,
    picture,
)
from image_nodes import (
    CUSTOM,
    DDIM_PAIR,
    EARLY,
    EMPHATIC,
    ENLARGED,
    FROM_INVERTED,
    JOINED,
    LARGE,
    MASK,
    MULTI_FLOW,
    OUTPAINTED,
    OWN_GUIDANCE,
    PLAIN,
    PLAIN_DUAL,
    REGIONAL,
    SECOND_PASS,
    SECOND_STAGE,
    SEPARATE,
    SHIFTED,
    TIED,
    UNSAMPLED,
    VARIED,
    guided,
    masked,
    pair,
    patched,
    sampled,
)

GRAPHS: dict[str, Graph] = {
    "text-to-image": Graph("KSampler, text context", PLAIN),
    "image-variation": Graph("KSampler, image context", sampled(context=STRAWBERRY)),
    "dual-context": Graph("KSampler, text and image context", PLAIN_DUAL, differs=PLAIN),
    "three-contexts": Graph(
        "KSampler, blend of a blend", sampled(context=blend(DUAL, STRAWBERRY, 0.4)), differs=PLAIN_DUAL
    ),
    **{
        f"sampler-{name}-{scheduler}": Graph(
            f"KSampler {name}, {scheduler}", sampled(sampler_name=name, scheduler=scheduler)
        )
        for name, scheduler in (
            ("euler", "normal"),
            ("ddim", "ddim_uniform"),
            ("euler_ancestral", "exponential"),
            ("dpmpp_sde", "beta"),
            ("uni_pc", "simple"),
            ("lcm", "sgm_uniform"),
        )
    },
    "ksampler-advanced": Graph("KSamplerAdvanced in two stages, leftover noise", picture(SECOND_STAGE)),
    "sampler-custom-official": Graph("SamplerCustom with the official DDIM", picture(CUSTOM)),
    "regions": Graph(
        "KSampler, a text and an image context in a region each",
        sampled(context=REGIONAL),
        differs=PLAIN_DUAL,
    ),
    "regions-batch": Graph(
        "The same, batch of 2 at 128x64", sampled(context=REGIONAL, latent=empty(2, 128, 64))
    ),
    "regions-masked": Graph(
        "Region with a mask that is set aside by Conditioning (Set Mask) too",
        sampled(positive=masked(REGIONAL[0], MASK), context=REGIONAL),
    ),
    "regions-in-time": Graph(
        "KSampler, text context first, image context then", sampled(context=EARLY), differs=PLAIN_DUAL
    ),
    "regions-multi-flow": Graph(
        "Multi-flow sampler, regions", picture(node("VD_Sampler", **{**MULTI_FLOW.inputs, **pair(REGIONAL)}))
    ),
    "context-guidance": Graph(
        "KSampler, a guidance per context", sampled(context=OWN_GUIDANCE), differs=PLAIN_DUAL
    ),
    "context-guidance-samplers": Graph(
        "The same, euler_ancestral", sampled(context=OWN_GUIDANCE, sampler_name="euler_ancestral")
    ),
    "context-guidance-rescale": Graph(
        "The same, RescaleCFG", patched("RescaleCFG", OWN_GUIDANCE, multiplier=0.7), differs=PLAIN_DUAL
    ),
    "prompt-weights": Graph(
        "Weights in a prompt and in its negative", sampled(context=EMPHATIC), differs=PLAIN
    ),
    "prompt-weights-dual": Graph(
        "The same, blended with a picture", sampled(context=blend(EMPHATIC, ROCKET, 0.65)), differs=PLAIN_DUAL
    ),
    "prompt-weights-joined": Graph(
        "The same, joined with another prompt", sampled(context=JOINED), differs=PLAIN
    ),
    "cfg-guider": Graph(
        "SamplerCustomAdvanced, CFGGuider", guided("CFGGuider", positive=DUAL[0], negative=DUAL[1], cfg=2.0)
    ),
    "cfg-guider-official": Graph(
        "SamplerCustomAdvanced, CFGGuider, official DDIM",
        guided("CFGGuider", *DDIM_PAIR, positive=DUAL[0], negative=DUAL[1], cfg=2.0),
    ),
    "basic-guider": Graph("SamplerCustomAdvanced, BasicGuider", guided("BasicGuider", conditioning=APPLE[0])),
    "dual-cfg-guider": Graph("DualCFGGuider: text against image", guided("DualCFGGuider", **SEPARATE)),
    "perp-neg": Graph(
        "PerpNegGuider",
        guided(
            "PerpNegGuider",
            positive=APPLE[0],
            negative=STAR[0],
            empty_conditioning=APPLE[1],
            cfg=2.0,
            neg_scale=1.0,
        ),
    ),
    **{
        f"shifted-{name}-{scheduler}": Graph(
            f"Resolution Shift (VD), KSampler {name}, {scheduler}",
            sampled(SHIFTED, latent=LARGE, sampler_name=name, scheduler=scheduler),
            differs=sampled(latent=LARGE, sampler_name=name, scheduler=scheduler),
        )
        for name, scheduler in (
            ("dpmpp_2m", "karras"),
            ("dpmpp_2m", "normal"),
            ("euler", "simple"),
            ("uni_pc", "ddim_uniform"),
        )
    },
    "tied": Graph(
        "Low-Pass Guidance (VD), KSampler",
        sampled(TIED, latent=ENLARGED, denoise=0.5),
        differs=sampled(latent=ENLARGED, denoise=0.5),
    ),
    "tied-multi-flow": Graph(
        "Low-Pass Guidance (VD), Multi-Flow Sampler (VD)",
        picture(node("VD_Sampler", **{**SECOND_PASS, "model": TIED})),
        differs=picture(node("VD_Sampler", **SECOND_PASS)),
    ),
    "shifted-multi-flow": Graph(
        "Resolution Shift (VD), Multi-Flow Sampler (VD)",
        picture(node("VD_Sampler", **{**MULTI_FLOW.inputs, "model": SHIFTED, "latent_image": LARGE})),
        differs=picture(node("VD_Sampler", **{**MULTI_FLOW.inputs, "latent_image": LARGE})),
    ),
    "inverted": Graph("Invert Latent (VD), Multi-Flow Sampler (VD)", picture(FROM_INVERTED)),
    "inverted-batch": Graph(
        "The same, batch of 3 with eta 0.6", picture(VARIED), differs=picture(FROM_INVERTED)
    ),
    "inverted-ksampler": Graph(
        "Invert Latent (VD), KSamplerAdvanced", picture(UNSAMPLED), differs=picture(FROM_INVERTED)
    ),
    "multi-flow-inpaint": Graph(
        "Multi-Flow Sampler (VD), noise mask",
        picture(node("VD_Sampler", **{**MULTI_FLOW.inputs, "latent_image": OUTPAINTED})),
    ),
    "multi-flow-sampler": Graph("Multi-Flow Sampler (VD), dual context", picture(MULTI_FLOW)),
}
