"""The official app, end to end, through node classes alone: used on both hosts for the golden cases
`app_*`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from golden_cases import draws
from torch import Tensor

from vd_core.checkpoints.contexts import save_context
from vd_core.context import Context

Nodes = dict[str, Callable]  # by class name: (**inputs) -> the outputs


def run_app(case, nodes: Nodes, models: dict, folder: Path, wide: dict):
    """Yield (name, ours, golden) of one case: contexts, first latent, last latent, and what is decoded from
    it.

    models: the outputs of the loaders: image_model, vae, text_model, text_vae, clip, clip_vision.
    folder: where Load Context (VD) finds files.
    wide:   prompts that `clip` reads as the case's tokenizer did. Its vocabulary is made up, so other prompts
            are files.
    """
    config, io, arguments = case.config, case.io, case.config["arguments"]
    height, width = config["output_dim"]
    texts = "output_text" in config

    def squeezed(name: str) -> Tensor:
        return nodes["VD_Squeeze"](
            image=io[f"{name}_uint8_hwc"][None].float() / 255, width=width, height=height
        )[0]

    contexts = []
    for number, entry in enumerate(config["contexts_in_order"]):
        if entry["type"] == "text":
            tokens, null = io[f"cond{number}_text"], io[f"uncond{number}_text"]
            if arguments["text"] in wide:
                sides = nodes["VD_TextContext"](clip=models["clip"], text=arguments["text"], negative_text="")
            else:
                save_context(
                    folder / f"{case.folder.name}{number}.safetensors", Context("text", tokens, null)
                )
                sides = nodes["VD_LoadContext"](file=f"{case.folder.name}{number}.safetensors")
            yield f"cond{number}_text", sides[0][0][0], tokens
            yield f"uncond{number}_text", sides[1][0][0], null
        else:
            sides = image_context(case, nodes, models, squeezed, "black" if texts else "zeros")
            yield f"cond{number}_image", sides[0][0][0], io[f"cond{number}_image"]
            if f"uncond{number}_image" in io:
                yield f"uncond{number}_image", sides[1][0][0], io[f"uncond{number}_image"]
        contexts.append(sides)
    positive, negative = contexts[0]
    if len(contexts) == 2:
        ratio = config["contexts_in_order"][1]["ratio"]
        positive, negative = nodes["VD_Blend"](**pairs(contexts[0], contexts[1]), ratio=ratio)

    seed, count = config["seed"], config["n_samples"]
    fidelity, latent = (
        arguments.get("fid_lvl", 0),
        {"samples": torch.zeros(count, 4, height // 8, width // 8)},
    )
    if texts:
        (latent,) = nodes["VD_EmptyTextLatent"](text_vae=models["text_vae"], batch_size=count)
    elif fidelity > 0:
        picture = squeezed(arguments["image"])
        (latent,) = nodes["VD_ImageEncode"](pixels=picture, vae=models["vae"], seed=seed, batch_size=count)
        scaled = latent["samples"] * case.sizes["latent_scale_factor"]["image"]
        yield "vae_encode_out", scaled, io["vae_encode_out"].expand(scaled.shape)
    (latent,) = nodes["VD_Sampler"](
        model=models["text_model" if texts else "image_model"],
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=seed,
        steps=config["ddim_steps"],
        cfg=config["guidance_scale"],
        sampler="ddim",
        eta=config["ddim_eta"],
        fidelity=fidelity,
        noise="official",
    )
    scale = 1.0 if texts else case.sizes["latent_scale_factor"]["image"]
    yield "latent", latent["samples"].reshape(io["latent"].shape) * scale, io["latent"]
    if texts:
        written = nodes["VD_TextDecode"](
            text_vae=models["text_vae"], samples=latent, seed=seed, noise="official"
        )
        if draws.as_recorded():
            yield "output_text", written["result"][0], config["output_text"]
        return
    (images,) = nodes["VAEDecode"](samples=latent, vae=models["vae"])
    if arguments.get("clr_adj") == "Simple":
        (images,) = nodes["VD_ColorAdjust"](image=images, reference=squeezed(arguments["image"]))
    # Quirk kept: both SaveImage nodes cut the fraction off, as the official app does.
    yield "output_uint8_nhwc", (images.clamp(0, 1) * 255).to(torch.uint8), io["output_uint8_nhwc"]


def image_context(
    case, nodes: Nodes, models: dict, squeezed: Callable[[str], Tensor], unconditional: str
) -> tuple:
    """Return the image context of a case, of one picture or of several that are joined along the tokens."""
    arguments, (height, width), found = case.config["arguments"], case.config["output_dim"], None
    for entry in arguments.get("images", [arguments]):
        image, options = squeezed(entry["image"]), {}
        if "mask" in entry:
            painted = case.io[f"{entry['mask']}_painted_uint8_hw"][None].float() / 255
            options["mask"] = nodes["VD_Squeeze"](image=image, width=width, height=height, mask=painted)[1]
        sides = nodes["VD_ImageContext"](
            clip_vision=models["clip_vision"],
            image=image,
            focus=entry.get("fcs_lvl", 0.5),
            weight=entry.get("strength", 1.0),
            unconditional=unconditional,
            **options,
        )
        found = nodes["VD_Join"](**pairs(found, sides), mode="concatenate") if found else sides
    return found


def pairs(first: tuple, second: tuple) -> dict:
    """Two contexts as the inputs of Blend and Join."""
    return {"positive_1": first[0], "negative_1": first[1], "positive_2": second[0], "negative_2": second[1]}
