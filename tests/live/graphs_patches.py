"""Graphs of stock nodes that change the image model itself: name -> Graph."""

from graph import (
    APPLE,
    CLIP,
    DUAL,
    STRAWBERRY,
    Graph,
    empty,
    image_model,
    ksampler,
    node,
)
from image_nodes import (
    BF16,
    CLIP_HOOKED,
    CONTROL_LORA,
    HOOKED,
    MODEL,
    NET,
    PLAIN,
    PLAIN_DUAL,
    VAE,
    boxed,
    controlled,
    lora,
    patched,
    sampled,
)

GRAPHS: dict[str, Graph] = {
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
