"""The models of golden cases: sizes from the official configs, weights through the project's own checkpoint
code."""

from __future__ import annotations

from vd_core.checkpoints.load import load
from vd_core.config import (
    ClipConfig,
    DataConfig,
    DiffuserConfig,
    ImageVAEConfig,
    ScheduleConfig,
    TextVAEConfig,
    TransformerConfig,
    VDConfig,
)
from vd_core.flows import VersatileDiffusion
from vd_core.tokenizers import Vocabularies

DIFFUSER = {f"diffuser.{group}.{kind}" for group in ("data", "context") for kind in ("image", "text")}


def vd_config(sizes: dict) -> VDConfig:
    """Our config from the official sizes; parts that the case does not state keep the defaults."""
    parts: dict = {}
    if "unet2d" in sizes:
        image, text = sizes["unet2d"], sizes["unet0d"]
        parts["diffuser"] = DiffuserConfig(
            model_channels=image["model_channels"],
            channel_mult=tuple(image["channel_mult"]),
            num_res_blocks=tuple(image["num_res_blocks"]),
            attention=tuple(
                2**level in image["attention_resolutions"] for level in range(len(image["channel_mult"]))
            ),
            num_heads=image["num_heads"],
            data={
                "image": DataConfig(
                    "2d", image["in_channels"], latent_scale=sizes["latent_scale_factor"]["image"]
                ),
                "text": DataConfig("0d", text["input_channels"], second_dim=text["second_dim"][0]),
            },
            context={"image": image["context_dim"], "text": text["context_dim"]},
        )
    if "beta_linear_start" in sizes:
        parts["schedule"] = ScheduleConfig(
            sizes["timesteps"], sizes["beta_linear_start"], sizes["beta_linear_end"]
        )
    if "clip_text" in sizes:
        text, vision = sizes["clip_text"], sizes["clip_vision"]
        patches = (vision["image_size"] // vision["patch_size"]) ** 2
        parts["clip"] = ClipConfig(
            text=clip_tower(text, text["max_position_embeddings"], text["vocab_size"]),
            vision=clip_tower(vision, patches + 1),
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            projection_dim=text["projection_dim"],
        )
    if "autokl" in sizes:
        vae = sizes["autokl"]
        parts["image_vae"] = ImageVAEConfig(
            vae["ch"], tuple(vae["ch_mult"]), vae["num_res_blocks"], vae["z_channels"]
        )
    if "bert" in sizes:
        bert, gpt2 = sizes["bert"], sizes["gpt2"]
        parts["text_vae"] = TextVAEConfig(
            encoder=TransformerConfig(
                bert["hidden_size"],
                bert["num_hidden_layers"],
                bert["num_attention_heads"],
                bert["intermediate_size"],
                bert["max_position_embeddings"],
                bert["vocab_size"],
            ),
            decoder=TransformerConfig(
                gpt2["n_embd"],
                gpt2["n_layer"],
                gpt2["n_head"],
                4 * gpt2["n_embd"],
                gpt2["n_positions"],
                gpt2["vocab_size"],
            ),
            latent_width=gpt2.get("latent_size", sizes.get("latent_size")),
        )
    return VDConfig(**parts)


def clip_tower(sizes: dict, positions: int, vocab_size: int = 0) -> TransformerConfig:
    """One tower of CLIP from Hugging Face's names."""
    names = "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    return TransformerConfig(*(sizes[name] for name in names), positions=positions, vocab_size=vocab_size)


def model_of(case, parts: set[str], prefix: str = "") -> VersatileDiffusion:
    """The wanted parts with the case's weights. `prefix`: where the parts lie in the whole model, for files
    that hold only them."""
    return load(
        case.weights(prefix), parts=parts, config=vd_config(case.sizes), vocabularies=vocabularies(case)
    )


def vocabularies(case) -> Vocabularies | None:
    """Return the small vocabularies that the case names."""
    if "vocab_dir" not in case.config:
        return None
    folder = case.path("vocab_dir")
    bert, vocab, merges = (
        (folder / name).read_bytes().decode() for name in ("bert.txt", "gpt2-vocab.json", "gpt2-merges.txt")
    )
    return Vocabularies(bert, vocab, merges)
