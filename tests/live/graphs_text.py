"""Graphs of stock nodes around the text model: name -> Graph."""

from graph import (
    APPLE,
    DUAL,
    IMAGE,
    ROCKET,
    STAR,
    TEXT,
    Graph,
    Node,
    blend,
    empty,
    empty_text,
    ksampler,
    node,
    prompt,
    region,
    seen,
    sentence,
    text_model,
)
from graph import OTHER_PICTURE as ROCKET_PICTURE

MODEL, VAE = TEXT[0], TEXT[1]
CAPTIONED = seen(ROCKET_PICTURE, "black")
ENCODED = node("VD_TextEncode", text_vae=VAE, text="red apple, 3d style\nyellow star, flat style")
SAMPLED = ksampler(MODEL, CAPTIONED, empty_text())
PLAIN = sentence(SAMPLED)
OTHER = ksampler(MODEL, APPLE, empty_text())


def sampled(model=MODEL, context: Node = CAPTIONED, latent=None, **changes) -> Node:
    """Sentences through KSampler."""
    return sentence(ksampler(model, context, latent or empty_text(), **changes))


def patched(class_type: str, **inputs) -> Node:
    """Sentences of the model after a node that patches it."""
    return sampled(node(class_type, model=MODEL, **inputs))


DDIM = node("VD_OfficialDDIM", model=MODEL, steps=5, eta=0.0)
GUIDER = node("CFGGuider", model=MODEL, positive=CAPTIONED[0], negative=CAPTIONED[1], cfg=2.0)
NOISE = node("RandomNoise", noise_seed=1)
ADVANCED = node(
    "SamplerCustomAdvanced",
    noise=NOISE,
    sampler=DDIM[0],
    sigmas=DDIM[1],
    latent_image=empty_text(),
    guider=GUIDER,
)
MULTI_FLOW = node(
    "VD_Sampler",
    model=MODEL,
    positive=CAPTIONED[0],
    negative=CAPTIONED[1],
    latent_image=ENCODED,
    seed=1,
    steps=5,
    cfg=2.0,
    sampler="unipc",
    eta=0.0,
    fidelity=0.5,
    noise="per sample",
)
FIRST = node("ConditioningSetTimestepRange", conditioning=ROCKET[0], start=0.0, end=0.5)
THEN = node("ConditioningSetTimestepRange", conditioning=APPLE[0], start=0.5, end=1.0)
TIMED = node("ConditioningCombine", conditioning_1=FIRST, conditioning_2=THEN)
IN_TIME = blend(region(CAPTIONED, end=0.5), region(APPLE, start=0.5), 0.5)
ZEROED = node("ConditioningZeroOut", conditioning=ROCKET[0])
AVERAGED = node(
    "ConditioningAverage", conditioning_to=APPLE[0], conditioning_from=STAR[0], conditioning_to_strength=0.5
)
DRAWN = node("VAEDecode", samples=ksampler(IMAGE[0], APPLE, empty()), vae=IMAGE[1])
BF16 = text_model(weight_dtype="bf16")[0]
MASKED = node("SetLatentNoiseMask", samples=ENCODED, mask=node("SolidMask", value=1.0, width=64, height=64))
LOADED = node("LoadLatent", latent="text.latent")

GRAPHS: dict[str, Graph] = {
    "image-to-text": Graph("KSampler, image context", PLAIN),
    "text-to-text": Graph("KSampler, text context", sentence(OTHER)),
    "text-dual-context": Graph("KSampler, dual context", sampled(context=DUAL)),
    "text-three-contexts": Graph("KSampler, blend of a blend", sampled(context=blend(DUAL, STAR, 0.3))),
    **{
        f"text-sampler-{name}-{scheduler}": Graph(
            f"KSampler {name}, {scheduler}", sampled(sampler_name=name, scheduler=scheduler)
        )
        for name, scheduler in (
            ("euler", "normal"),
            ("ddim", "ddim_uniform"),
            ("dpmpp_sde", "beta"),
            ("uni_pc", "simple"),
        )
    },
    "text-official-ddim": Graph("SamplerCustomAdvanced with the official DDIM", sentence(ADVANCED)),
    "text-multi-flow-sampler": Graph("Multi-Flow Sampler (VD), fidelity 0.5", sentence(MULTI_FLOW)),
    "text-edit": Graph(
        "KSampler, denoise 0.5 on encoded sentences", sampled(latent=ENCODED, context=STAR, denoise=0.5)
    ),
    "text-latent-batch": Graph(
        "LatentBatch", sentence(node("LatentBatch", samples1=SAMPLED, samples2=ENCODED))
    ),
    "text-latent-from-batch": Graph(
        "LatentFromBatch", sentence(node("LatentFromBatch", samples=SAMPLED, batch_index=1, length=1))
    ),
    "text-repeat-latent": Graph(
        "RepeatLatentBatch", sampled(latent=node("RepeatLatentBatch", samples=ENCODED, amount=2), denoise=0.5)
    ),
    "text-rebatch": Graph(
        "RebatchLatents: a list of batches",
        sampled(latent=node("RebatchLatents", latents=empty_text(3), batch_size=1)),
    ),
    "text-latent-blend": Graph(
        "LatentBlend", sentence(node("LatentBlend", samples1=SAMPLED, samples2=ENCODED, blend_factor=0.5))
    ),
    "text-latent-add": Graph("LatentAdd", sentence(node("LatentAdd", samples1=SAMPLED, samples2=ENCODED))),
    "text-latent-interpolate": Graph(
        "LatentInterpolate of single latents",
        sentence(
            node(
                "LatentInterpolate",
                samples1=node("LatentFromBatch", samples=SAMPLED, batch_index=0, length=1),
                samples2=node("LatentFromBatch", samples=ENCODED, batch_index=0, length=1),
                ratio=0.5,
            )
        ),
    ),
    "text-save-latent": Graph(
        "SaveLatent", node("SaveLatent", samples=SAMPLED, filename_prefix="vd_live/text")
    ),
    "text-noise-mask": Graph(
        "SetLatentNoiseMask: all of the text or nothing", sampled(latent=MASKED, denoise=0.5)
    ),
    "text-load-latent": Graph("LoadLatent, denoise 0.5", sampled(latent=LOADED, denoise=0.5)),
    "text-timestep-range": Graph("ConditioningSetTimestepRange: picture, then text", sampled(positive=TIMED)),
    "text-regions-in-time": Graph("Region (VD): picture, then text", sampled(context=IN_TIME), differs=PLAIN),
    "text-prompt-weights": Graph(
        "Weights in a prompt", sampled(context=prompt("(red:2) apple, (3d:0) style")), differs=sentence(OTHER)
    ),
    "text-zero-out": Graph("ConditioningZeroOut as negative", sampled(context=ROCKET, negative=ZEROED)),
    "text-average": Graph("ConditioningAverage", sampled(context=APPLE, positive=AVERAGED)),
    **{
        f"text-weights-{dtype}": Graph(
            f"weight_dtype {dtype}", sampled(text_model(weight_dtype=dtype)[0], DUAL)
        )
        for dtype in ("fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2")
    },
    "text-only-image-layers": Graph("contexts: image", sampled(text_model("image")[0])),
    "text-rescale-cfg": Graph("RescaleCFG", patched("RescaleCFG", multiplier=0.7)),
    "text-zsnr": Graph(
        "ModelSamplingDiscrete, zero terminal SNR",
        patched("ModelSamplingDiscrete", sampling="v_prediction", zsnr=True),
    ),
    "text-easycache": Graph(
        "EasyCache",
        patched("EasyCache", reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False),
    ),
    "text-wrappers": Graph("Wrappers of all kinds", patched("VDLive_Wrappers")),
    "text-model-merge": Graph(
        "ModelMergeSimple", sampled(node("ModelMergeSimple", model1=MODEL, model2=BF16, ratio=0.5))
    ),
    "text-model-save": Graph(
        "ModelSave", node("ModelSave", model=MODEL, filename_prefix="vd_live/text_model")
    ),
    "both-flows": Graph(
        "A caption of a picture that the same graph makes", sampled(context=seen(DRAWN, "black"))
    ),
}
