"""Graphs of stock nodes that change what the image model starts from or is told: name -> Graph."""

from graph import (
    APPLE,
    DUAL,
    PICTURE,
    ROCKET,
    STAR,
    STRAWBERRY,
    Graph,
    empty,
    node,
    prompt,
    seen,
)
from image_nodes import (
    AVERAGED,
    DDIM_PAIR,
    ENCODED,
    INPAINT,
    INVERTED,
    MASK,
    MODEL,
    OUTPAINTED,
    PLAIN,
    PLAIN_DUAL,
    TIMED,
    TWO_DUAL,
    TWO_PICTURES,
    UPSCALED,
    VAE,
    area,
    both,
    cond,
    guided,
    masked,
    sampled,
)

GRAPHS: dict[str, Graph] = {
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
}
