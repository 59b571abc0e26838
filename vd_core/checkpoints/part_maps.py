"""Where every tensor of the parts around the diffuser lies in the foreign layouts: autoencoders and CLIP."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import ClipConfig, ImageVAEConfig
from .key_maps import Rule

# (ours, diffusers, diffusers before 0.15)
VAE_ATTENTION_LEAVES = (
    ("q.", "to_q.", "query."),
    ("k.", "to_k.", "key."),
    ("v.", "to_v.", "value."),
    ("proj_out.", "to_out.0.", "proj_attn."),
)


def diffusers_image_vae(config: ImageVAEConfig, prefix: str = "") -> Iterator[Rule]:
    """Map the AutoencoderKL of a diffusers folder.

    Its up blocks are numbered the other way round, and its attention has linear layers.
    """
    levels = len(config.channel_mult)
    for whole in (
        "encoder.conv_in.",
        "encoder.conv_out.",
        "decoder.conv_in.",
        "decoder.conv_out.",
        "quant_conv.",
        "post_quant_conv.",
    ):
        yield Rule(f"image_vae.{whole}", f"{prefix}{whole}")
    for coder, way, sampler in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        ours, theirs = f"image_vae.{coder}.", f"{prefix}{coder}."
        yield Rule(f"{ours}norm_out.", f"{theirs}conv_norm_out.")
        for level in range(levels):
            block = f"{theirs}{way}_blocks.{level if way == 'down' else levels - 1 - level}."
            yield Rule(f"{ours}{way}.{level}.{sampler}.", f"{block}{sampler}rs.0.")
            for index in range(config.num_res_blocks + (way == "up")):
                yield from vae_res_block(f"{ours}{way}.{level}.block.{index}.", f"{block}resnets.{index}.")
        for index in range(2):
            yield from vae_res_block(f"{ours}mid.block_{index + 1}.", f"{theirs}mid_block.resnets.{index}.")
        ours, theirs = f"{ours}mid.attn_1.", f"{theirs}mid_block.attentions.0."
        yield Rule(f"{ours}norm.", f"{theirs}group_norm.")
        for leaf, name, old in VAE_ATTENTION_LEAVES:
            yield Rule(f"{ours}{leaf}", f"{theirs}{name}", "linear")
            yield Rule(f"{ours}{leaf}", f"{theirs}{old}", "linear", also="alias")


def vae_res_block(ours: str, theirs: str) -> Iterator[Rule]:
    """Map a residual block of the image autoencoder in diffusers."""
    yield Rule(ours, theirs)
    yield Rule(f"{ours}nin_shortcut.", f"{theirs}conv_shortcut.")


def optimus(prefix: str = "") -> Iterator[Rule]:
    """Map `optimus-vae.pth`. The output layer of GPT-2 is its token embedding once more."""
    decoder = f"{prefix}decoder.transformer."
    yield Rule("text_vae.encoder.", f"{prefix}encoder.")
    yield Rule("text_vae.encoder_linear.", f"{prefix}encoder.linear.")
    yield Rule("text_vae.decoder.", decoder)
    yield Rule("text_vae.latent_to_memory.", f"{decoder}linear.")
    yield Rule("text_vae.latent_to_embedding.", f"{decoder}linear_emb.")
    yield Rule("text_vae.decoder.wte.", f"{prefix}decoder.lm_head.", also="copy")


def clip_text(prefix: str = "") -> Iterator[Rule]:
    """Map the text tower as Hugging Face names it."""
    yield Rule("clip_text.text_model.", f"{prefix}text_model.")
    yield Rule("clip_text.text_projection.", f"{prefix}text_projection.")


def clip_vision(prefix: str = "") -> Iterator[Rule]:
    """Map the vision tower as Hugging Face names it."""
    yield Rule("clip_vision.vision_model.", f"{prefix}vision_model.")
    yield Rule("clip_vision.visual_projection.", f"{prefix}visual_projection.")


# Leaves of a transformer layer: (Hugging Face, OpenCLIP, change).
OPEN_CLIP_LEAVES = (
    ("layer_norm1.", "ln_1.", ""),
    ("self_attn.q_proj.", "attn.in_proj_", "q"),
    ("self_attn.k_proj.", "attn.in_proj_", "k"),
    ("self_attn.v_proj.", "attn.in_proj_", "v"),
    ("self_attn.out_proj.", "attn.out_proj.", ""),
    ("layer_norm2.", "ln_2.", ""),
    ("mlp.fc1.", "mlp.c_fc.", ""),
    ("mlp.fc2.", "mlp.c_proj.", ""),
)


def open_clip(config: ClipConfig) -> Iterator[Rule]:
    """Map both towers as OpenCLIP names them: q, k and v in one; projections applied from the right."""
    text, vision = "clip_text.text_model.", "clip_vision.vision_model."
    yield Rule(f"{text}embeddings.token_embedding.", "token_embedding.")
    yield Rule(f"{text}embeddings.position_embedding.weight", "positional_embedding")
    yield Rule(f"{text}final_layer_norm.", "ln_final.")
    yield Rule("clip_text.text_projection.weight", "text_projection", "transposed")
    yield Rule(f"{vision}embeddings.class_embedding", "visual.class_embedding")
    yield Rule(f"{vision}embeddings.patch_embedding.", "visual.conv1.")
    yield Rule(f"{vision}embeddings.position_embedding.weight", "visual.positional_embedding")
    yield Rule(f"{vision}pre_layrnorm.", "visual.ln_pre.")
    yield Rule(f"{vision}post_layernorm.", "visual.ln_post.")
    yield Rule("clip_vision.visual_projection.weight", "visual.proj", "transposed")
    for ours, theirs, layers in ((text, "", config.text.layers), (vision, "visual.", config.vision.layers)):
        for index in range(layers):
            for leaf, name, change in OPEN_CLIP_LEAVES:
                yield Rule(
                    f"{ours}encoder.layers.{index}.{leaf}",
                    f"{theirs}transformer.resblocks.{index}.{name}",
                    change,
                )
