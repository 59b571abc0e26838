"""The official app's methods, end to end, for the golden cases `app_*`."""

from __future__ import annotations

import torch
from torch import Tensor

from golden_cases import draws
from golden_cases.models import DIFFUSER, model_of
from vd_core.autoencoders.sentences import remove_duplicate_phrases
from vd_core.color import match_color
from vd_core.context import Context, join
from vd_core.flows import VersatileDiffusion
from vd_core.pictures import from_pil, resize, to_pil
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling


def run_app(case):
    """Contexts, the sampler's first input, the latents, and what is decoded from them."""
    config, arguments = case.config, case.config["arguments"]
    text_output = "output_text" in config
    parts = DIFFUSER | {"clip_vision", "text_vae" if text_output else "image_vae"}
    model = model_of(case, parts)
    contexts = []
    for number, entry in enumerate(config["contexts_in_order"]):
        if entry["type"] == "text":
            # The case's prompts were tokenized with a made-up vocabulary, so their tokens are taken as given.
            context = Context("text", case.io[f"cond{number}_text"], case.io.get(f"uncond{number}_text"))
        else:
            context = yield from image_context(case, model, number, "black" if text_output else "zeros")
        contexts.append(
            Context(
                context.kind, context.tokens, context.null, 1.0 if entry["ratio"] is None else entry["ratio"]
            )
        )

    noise, count = batch_noise(config["torch_seed"]), config["n_samples"]
    sizes = model.config.diffuser.data["text" if text_output else "image"]
    height, width = config["output_dim"]
    latent = (
        torch.zeros(count, sizes.channels)
        if text_output
        else torch.zeros(count, sizes.channels, height // 8, width // 8)
    )
    if arguments.get("fid_lvl", 0) > 0:
        first = picture(case, arguments["image"])
        clean = model.image_vae.encode(first, noise.draw((1, *latent.shape[1:])))
        yield "vae_encode_out", clean * sizes.latent_scale, case.io["vae_encode_out"]
        latent = clean.expand_as(latent)
    seen: list[Tensor] = []
    hook = model.diffuser.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    latent = model.sample(
        "text" if text_output else "image",
        contexts,
        latent,
        noise,
        Sampling(
            "ddim",
            config["ddim_steps"],
            config["guidance_scale"],
            config["ddim_eta"],
            fidelity=arguments.get("fid_lvl", 0),
        ),
    )
    hook.remove()
    yield "x_first", seen[0][:count], case.io["x_first"]
    yield "latent", latent * sizes.latent_scale, case.io["latent"]
    if text_output:
        sentences = model.text_vae.decode(latent, noise.generator)
        if draws.as_recorded():
            yield "output_text", "\n".join(map(remove_duplicate_phrases, sentences)), config["output_text"]
        return
    images = model.image_vae.decode(latent)
    if arguments.get("clr_adj") == "Simple":
        images = match_color(images, picture(case, arguments["image"]))
    yield (
        "output_uint8_nhwc",
        (from_pil(to_pil(images)) * 255).round().permute(0, 2, 3, 1),
        case.io["output_uint8_nhwc"],
    )


def picture(case, name: str) -> Tensor:
    """Return an input picture as the app takes it: squeezed to the output's size, [1, 3, H, W] in 0..1."""
    return resize(
        case.io[f"{name}_uint8_hwc"].permute(2, 0, 1)[None].float() / 255, *case.config["output_dim"]
    )


def image_context(case, model: VersatileDiffusion, number: int, null: str):
    """The image context of a case, of one picture or of several that are joined along the tokens; yields what
    can be compared."""
    arguments = case.config["arguments"]
    pictures = arguments.get("images", [arguments])
    encoded = len([entry for entry in case.config["contexts_in_order"] if entry["type"] == "text"]) * 2
    contexts = []
    for position, entry in enumerate(pictures, start=encoded):
        image, masks = picture(case, entry["image"]), None
        yield f"ctx_encode{position}_in", image, case.io[f"ctx_encode{position}_in"]
        if "mask" in entry:
            painted = case.io[f"{entry['mask']}_painted_uint8_hw"][None, None].float() / 255
            masks = 1 - resize(painted, *case.config["output_dim"], mode="bilinear")
            yield f"ctx_encode{position}_mask", masks, case.io[f"ctx_encode{position}_mask"]
        yield (
            f"ctx_encode{position}_out",
            model.clip.encode_image(image, masks),
            case.io[f"ctx_encode{position}_out"],
        )
        context = model.encode_image(image, masks, focus=entry.get("fcs_lvl", 0.5), null=null)
        contexts.append(Context("image", context.tokens, context.null, entry.get("strength", 1.0)))
    context = join(contexts)
    yield f"cond{number}_image", context.tokens, case.io[f"cond{number}_image"]
    if f"uncond{number}_image" in case.io:
        yield f"uncond{number}_image", context.unconditional, case.io[f"uncond{number}_image"]
    return context
