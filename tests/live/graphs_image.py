"""Graphs of stock nodes around the image model: name -> Graph."""

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
    Graph,
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
    """A picture of the model after a node that patches it."""
    return picture(ksampler(node(class_type, model=MODEL, **inputs), context, empty()))


def sampled(model=MODEL, context: Node = APPLE, latent=None, vae=VAE, **changes) -> Node:
    """A picture through KSampler."""
    return picture(ksampler(model, context, latent or empty(), **changes), vae)


def guided(class_type: str, sampler=EULER, sigmas=None, latent=None, **inputs) -> Node:
    """A picture through SamplerCustomAdvanced with that guider."""
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
    """A stock node that changes a conditioning."""
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
    """Outputs SAMPLER, SIGMAS."""
    return node("VD_OfficialDDIM", model=MODEL, steps=5, eta=0.0, **inputs)


def controlled(context: Node, net: Node) -> Node:
    """A picture under a ControlNet."""
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
    """A picture with a LoRA."""
    return patched("LoraLoaderModelOnly", context, lora_name=f"{name}.safetensors", strength_model=1.0)


def boxed(context: Node) -> Node:
    """A picture with a GLIGEN box."""
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
    """The inputs positive and negative."""
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
    # Latents
    "img2img": Graph("KSampler, denoise 0.5", sampled(latent=ENCODED, denoise=0.5)),
    "inpaint": Graph("SetLatentNoiseMask", sampled(latent=OUTPAINTED, context=STAR)),
    "inpaint-official": Graph(
        "SetLatentNoiseMask, official DDIM",
        guided("CFGGuider", *DDIM_PAIR, OUTPAINTED, positive=STAR[0], negative=STAR[1], cfg=2.0),
    ),
    "inpaint-vae": Graph(
        "VAEEncodeForInpaint",
        sampled(latent=node("VAEEncodeForInpaint", pixels=PICTURE, vae=VAE, mask=MASK, grow_mask_by=6)),
    ),
    "inpaint-model-conditioning": Graph(
        "InpaintModelConditioning", sampled(latent=INPAINT[2], context=INPAINT)
    ),
    "differential-diffusion": Graph(
        "DifferentialDiffusion", sampled(node("DifferentialDiffusion", model=MODEL), STAR, OUTPAINTED)
    ),
    "hires": Graph("LatentUpscale and a second pass", sampled(latent=UPSCALED, denoise=0.5)),
    "wide": Graph("Not square", sampled(latent=empty(width=96, height=48))),
    "batch": Graph("Batch of 2", sampled(latent=empty(2))),
    "rebatch": Graph(
        "RebatchLatents: a list of batches",
        sampled(latent=node("RebatchLatents", latents=empty(2), batch_size=1)),
    ),
    "repeat-latent": Graph(
        "RepeatLatentBatch", sampled(latent=node("RepeatLatentBatch", samples=ENCODED, amount=2), denoise=0.6)
    ),
    "latent-from-batch": Graph(
        "LatentFromBatch",
        sampled(latent=node("LatentFromBatch", samples=empty(3), batch_index=1, length=2), denoise=1.0),
    ),
    "batch-of-contexts": Graph(
        "ImageBatch as context, one picture per latent", sampled(context=seen(TWO_PICTURES), latent=empty(2))
    ),
    "batch-dual": Graph(
        "Batch of image contexts blended with one text", sampled(context=TWO_DUAL, latent=empty(2))
    ),
    "masked-context": Graph(
        "Image context with a mask",
        sampled(context=seen(PICTURE, mask=MASK)),
        differs=sampled(context=STRAWBERRY),
    ),
    # Conditioning
    "areas": Graph(
        "Areas: text left, picture right", sampled(positive=both(area(APPLE[0], 0.0), area(ROCKET[0], 0.5)))
    ),
    "areas-dual": Graph(
        "Areas: blend left, text right", sampled(positive=both(area(DUAL[0], 0.0), area(STAR[0], 0.5)))
    ),
    "masked-conditioning": Graph(
        "ConditioningSetMask: text inside, picture outside",
        sampled(positive=both(masked(APPLE[0], MASK), masked(ROCKET[0], INVERTED))),
    ),
    "timestep-range": Graph(
        "ConditioningSetTimestepRange: picture, then text", sampled(positive=TIMED), differs=PLAIN
    ),
    "average": Graph("ConditioningAverage", sampled(positive=AVERAGED), differs=PLAIN),
    "zero-out": Graph(
        "ConditioningZeroOut as negative",
        sampled(context=DUAL, negative=cond("ConditioningZeroOut", DUAL[0])),
    ),
    "other-negative": Graph(
        "Positive blend, negative text", sampled(context=DUAL, negative=APPLE[1]), differs=PLAIN_DUAL
    ),
    "long-prompt": Graph("A prompt of several pieces", sampled(context=prompt("red apple, " * 30, "blue"))),
    "weighted-prompt": Graph(
        "(word:1.5)", sampled(context=prompt("(red:1.5) apple, 3d style")), differs=PLAIN
    ),
    # Weights
    **{
        f"weights-{dtype}": Graph(f"weight_dtype {dtype}", sampled(image_model(weight_dtype=dtype)[0], DUAL))
        for dtype in ("fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2")
    },
    "only-text-layers": Graph("contexts: text", sampled(image_model("text")[0])),
    "only-image-layers": Graph("contexts: image", sampled(image_model("image")[0], STRAWBERRY)),
    # Patches of the model
    "freeu": Graph("FreeU_V2", patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)),
    "hypertile": Graph(
        "HyperTile", patched("HyperTile", tile_size=32, swap_size=2, max_depth=0, scale_depth=False)
    ),
    "pag": Graph(
        "PerturbedAttentionGuidance", patched("PerturbedAttentionGuidance", scale=3.0), differs=PLAIN
    ),
    "pag-dual": Graph(
        "The same, dual context", patched("PerturbedAttentionGuidance", DUAL, scale=3.0), differs=PLAIN_DUAL
    ),
    "sag": Graph(
        "SelfAttentionGuidance", patched("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0), differs=PLAIN
    ),
    "rescale-cfg": Graph("RescaleCFG", patched("RescaleCFG", multiplier=0.7), differs=PLAIN),
    "tome": Graph("TomePatchModel", patched("TomePatchModel", ratio=0.3), differs=PLAIN),
    "easycache": Graph(
        "EasyCache",
        patched("EasyCache", reuse_threshold=0.2, start_percent=0.15, end_percent=0.95, verbose=False),
    ),
    "deep-shrink": Graph(
        "PatchModelAddDownscale",
        patched(
            "PatchModelAddDownscale",
            block_number=3,
            downscale_factor=2.0,
            start_percent=0.0,
            end_percent=0.35,
            downscale_after_skip=True,
            downscale_method="bicubic",
            upscale_method="bicubic",
        ),
        differs=PLAIN,
    ),
    "zsnr": Graph(
        "ModelSamplingDiscrete, zsnr",
        patched("ModelSamplingDiscrete", sampling="v_prediction", zsnr=True),
        differs=PLAIN,
    ),
    "attention-multiply": Graph(
        "UNetCrossAttentionMultiply",
        patched("UNetCrossAttentionMultiply", DUAL, q=1.1, k=1.0, v=1.1, out=1.0),
        differs=PLAIN_DUAL,
    ),
    "apg": Graph("APG", patched("APG", eta=1.0, norm_threshold=5.0, momentum=0.0), differs=PLAIN),
    "fresca": Graph(
        "FreSca", patched("FreSca", scale_low=1.0, scale_high=1.25, freq_cutoff=2), differs=PLAIN
    ),
    **{
        f"ipadapter-{way.replace(' ', '-')}": Graph(
            f"As IPAdapter packs patch attention: {way}",
            patched("VDLive_AttentionPatches", DUAL, way=way),
            differs=PLAIN_DUAL,
        )
        for way in ("attn2 replace", "attn2", "attn2 output", "attn1")
    },
    "wrappers": Graph("Wrappers of all kinds", patched("VDLive_Wrappers"), differs=PLAIN),
    "lora-kohya": Graph(
        "LoRA of Stable Diffusion 1, kohya naming, text context", lora("kohya", APPLE), differs=PLAIN
    ),
    "lora-diffusers": Graph(
        "LoRA of Stable Diffusion 1, diffusers naming, dual context",
        lora("diffusers", DUAL),
        differs=PLAIN_DUAL,
    ),
    "lora-image": Graph(
        "LoRA on the layers for image contexts",
        lora("image_branch", STRAWBERRY),
        differs=sampled(context=STRAWBERRY),
    ),
    "lora-hook": Graph("CreateHookLora", sampled(context=HOOKED), differs=PLAIN),
    "lora-hook-clip": Graph(
        "SetClipHooks, which hands a LoRA hook on to the model", sampled(context=CLIP_HOOKED), differs=PLAIN
    ),
    "controlnet-text": Graph("ControlNet, text context", controlled(APPLE, NET), differs=PLAIN),
    "controlnet-dual": Graph("ControlNet, dual context", controlled(DUAL, NET), differs=PLAIN_DUAL),
    "control-lora": Graph("Control-LoRA, text context", controlled(APPLE, CONTROL_LORA), differs=PLAIN),
    "gligen": Graph("GLIGEN, text context", boxed(APPLE), differs=PLAIN),
    "gligen-dual": Graph("GLIGEN, dual context", boxed(DUAL), differs=PLAIN_DUAL),
    "model-merge": Graph(
        "ModelMergeSimple", sampled(node("ModelMergeSimple", model1=MODEL, model2=BF16, ratio=0.5))
    ),
    "model-merge-blocks": Graph(
        "ModelMergeBlocks",
        sampled(node("ModelMergeBlocks", model1=MODEL, model2=BF16, input=1.0, middle=0.5, out=0.0)),
    ),
    "model-save": Graph("ModelSave", node("ModelSave", model=MODEL, filename_prefix="vd_live/model")),
    "checkpoint-save": Graph(
        "CheckpointSave",
        node("CheckpointSave", model=MODEL, clip=CLIP, vae=VAE, filename_prefix="vd_live/checkpoint"),
    ),
    "vae-tiled": Graph(
        "VAEDecodeTiled",
        node(
            "PreviewImage",
            images=node(
                "VAEDecodeTiled",
                samples=ksampler(MODEL, APPLE, empty()),
                vae=VAE,
                tile_size=64,
                overlap=16,
                temporal_size=64,
                temporal_overlap=8,
            ),
        ),
    ),
}
