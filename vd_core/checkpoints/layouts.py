"""The kinds of weights files, told apart by their keys alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..config import VDConfig
from . import key_maps, part_maps
from .key_maps import Rule
from .parts import list_parts


@dataclass(frozen=True)
class Layout:
    """mark: pattern of keys that only this layout has.

    ignorable: pattern of keys that carry nothing we need.
    """

    name: str
    title: str
    mark: str
    rules: Callable[[VDConfig], Iterable[Rule]]
    ignorable: str = r"(?!)"  # matches nothing

    def ignores(self, key: str) -> bool:
        """Tell whether a key carries nothing that we need."""
        return re.match(self.ignorable, key) is not None


def official_rules(config: VDConfig) -> Iterator[Rule]:
    """Map the official whole model; the published file holds the diffuser, a saved whole model all of it."""
    yield from key_maps.official_diffuser(config.diffuser)
    yield Rule("image_vae.", "vae.image.")
    yield from part_maps.optimus("vae.text.")
    yield from part_maps.clip_text("ctx.text.model.")
    yield from part_maps.clip_vision("ctx.image.model.")


def deprecated_rules(config: VDConfig) -> Iterator[Rule]:
    """Map the first release, with the names its other parts would have in a saved whole model."""
    yield from key_maps.deprecated_diffuser(config.diffuser)
    yield Rule("image_vae.", "autokl.")
    yield from part_maps.optimus("optimus.")
    yield from part_maps.clip_text("clip.model.")
    yield from part_maps.clip_vision("clip.model.")


def diffusers_rules(config: VDConfig) -> Iterator[Rule]:
    """Map a diffusers folder. It has no Optimus: texts cannot be decoded from it."""
    kinds = dict.fromkeys([*config.diffuser.data, *config.diffuser.context])
    for index, kind in enumerate(kinds):
        also = "copy" if index else ""
        yield from key_maps.diffusers_unet(config.diffuser, kind, {kind: ""}, f"{kind}_unet/", also)
    yield from part_maps.diffusers_image_vae(config.image_vae, "vae/")
    yield from part_maps.clip_text("text_encoder/")
    yield from part_maps.clip_vision("image_encoder/")


def clip_rules(config: VDConfig) -> Iterator[Rule]:
    """Map a Hugging Face CLIP, whole or one tower."""
    yield from part_maps.clip_text()
    yield from part_maps.clip_vision()


# Buffers that are computed, not learned.
SCHEDULE = (
    r"(betas|(sqrt_|log_)?(one_minus_)?alphas_cumprod(_prev)?|sqrt_recip(m1)?_alphas_cumprod|lvlb_weights"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12]))$"
)
# Saved by transformers before 4.31.
POSITIONS = r"(.*\.)?(text_model|vision_model|encoder)\.embeddings\.position_ids$"
CAUSAL_MASKS = r"(.*\.)?decoder\.transformer\.h\.\d+\.attn\.(bias|masked_bias)$"
LOGIT_SCALE = r"(.*\.)?logit_scale$"
# The official model holds CLIP twice and uses one half of each.
UNUSED_CLIP_HALVES = (
    r"ctx\.image\.model\.text_(model|projection)\.|ctx\.text\.model\.(vision_model|visual_projection)\."
)
VAE_TRAINING = r"(loss|model_ema)\."  # discriminator and averages in files of the autoencoder's training
OPEN_CLIP_BUFFERS = r"(attn_mask|input_resolution|context_length|vocab_size)$"

LAYOUTS = (
    Layout(
        "vd_core",
        "single file of this project",
        r"diffuser\.(data|context)\.|diffuser\.time_embed\.|clip_text\.|clip_vision\.|image_vae\.|text_vae\.",
        lambda config: key_maps.own(list_parts(config)),
        r"vocab\.",
    ),
    Layout(
        "official",
        "official Versatile Diffusion, current layout",
        r"diffuser\.\w+\.(time_embed|data_blocks|context_blocks)\.|vae\.(image|text)\."
        r"|ctx\.(image|text)\.model\.",
        official_rules,
        "|".join((SCHEDULE, POSITIONS, CAUSAL_MASKS, LOGIT_SCALE, UNUSED_CLIP_HALVES)),
    ),
    Layout(
        "deprecated",
        "official Versatile Diffusion, first release",
        r"model\.diffusion_model\.unet_\w+\.",
        deprecated_rules,
        "|".join((SCHEDULE, POSITIONS, CAUSAL_MASKS, LOGIT_SCALE)),
    ),
    Layout(
        "diffusers",
        "diffusers folder",
        r"(image_unet|text_unet|vae|text_encoder|image_encoder)/",
        diffusers_rules,
        POSITIONS,
    ),
    Layout(
        "image_unet",
        "image_unet of a diffusers folder",
        r"down_blocks\.0\.downsamplers\.0\.conv\.",
        lambda config: key_maps.diffusers_unet(config.diffuser, "image", {"image": ""}),
    ),
    Layout(
        "text_unet",
        "text_unet of a diffusers folder",
        r"down_blocks\.0\.downsamplers\.0\.(weight|bias)$",
        lambda config: key_maps.diffusers_unet(config.diffuser, "text", {"text": ""}),
    ),
    Layout(
        "kl-f8",
        "image autoencoder (kl-f8)",
        r"encoder\.down\.\d+\.block\.|decoder\.up\.\d+\.block\.",
        lambda config: [Rule("image_vae.", "")],
        VAE_TRAINING,
    ),
    Layout(
        "vae",
        "image autoencoder of a diffusers folder",
        r"encoder\.down_blocks\.|decoder\.up_blocks\.",
        lambda config: part_maps.diffusers_image_vae(config.image_vae),
    ),
    Layout(
        "optimus",
        "Optimus text autoencoder",
        r"encoder\.embeddings\.|encoder\.encoder\.layer\.|decoder\.transformer\.",
        lambda config: part_maps.optimus(),
        "|".join((POSITIONS, CAUSAL_MASKS)),
    ),
    Layout(
        "clip",
        "Hugging Face CLIP",
        r"text_model\.|vision_model\.",
        clip_rules,
        "|".join((POSITIONS, LOGIT_SCALE)),
    ),
    Layout(
        "open_clip",
        "OpenCLIP",
        r"visual\.(transformer\.|conv1\.)|transformer\.resblocks\.",
        lambda config: part_maps.open_clip(config.clip),
        "|".join((LOGIT_SCALE, OPEN_CLIP_BUFFERS)),
    ),
)

# The diffuser with image output and one context alone is Stable Diffusion's (and Prompt-Free Diffusion's, in
# the official layout). It reads another text encoder's tokens than Versatile Diffusion, so such a file is
# converted and never loaded.
STABLE_DIFFUSION = Layout(
    "stable_diffusion",
    "diffuser of Stable Diffusion 1",
    r"model\.diffusion_model\.(input_blocks|middle_block|output_blocks)\.",
    lambda config: key_maps.unet_model(config.diffuser, "image", ["text"], "model.diffusion_model."),
    "|".join((r"(first_stage_model|cond_stage_model|model_ema)\.", SCHEDULE)),
)
CONVERTED = (*LAYOUTS, STABLE_DIFFUSION)


def find_layout(name: str) -> Layout:
    """Return the layout of that name. Raises ValueError if there is none."""
    for layout in CONVERTED:
        if layout.name == name:
            return layout
    raise ValueError(
        f"There is no layout {name}; there are {', '.join(layout.name for layout in CONVERTED)}."
    )


# Files that people have at hand and that are no part of this model: (pattern of a key, what it is).
STRANGERS = (
    (
        r"model\.diffusion_model\.(input_blocks|joint_blocks)\.|first_stage_model\.|cond_stage_model\.",
        "a Stable Diffusion checkpoint",
    ),
    (r"ctx\.image\.(imencoder|imdecoder|qtransformer)\.", "a SeeCoder"),
    (r"control_model\.|input_hint_block\.|zero_convs\.", "a ControlNet"),
)
# of a LoRA, by this project or another
LORA = r".*\.lora_(up|down|A|B)\.|lora_\w+\."


def detect(keys: Iterable[str], path: object, layouts: Sequence[Layout] = LAYOUTS) -> Layout:
    """Find the layout whose mark the keys bear.

    Raises ValueError, with the first keys, if there is none or more than one.
    """
    keys = list(keys)
    found = [layout for layout in layouts if any(re.match(layout.mark, key) for key in keys)]
    if len(found) == 1:
        return found[0]
    some = f"its first keys are {', '.join(keys[:4])}"
    if found:
        raise ValueError(
            f"{path} mixes several kinds of weights ({'; '.join(layout.title for layout in found)}); {some}."
        )
    for pattern, name in STRANGERS:
        if any(re.match(pattern, key) for key in keys):
            raise ValueError(f"{path} looks like {name}, which is no part of Versatile Diffusion; {some}.")
    if any(re.match(LORA, key) for key in keys):
        raise ValueError(
            f"{path} looks like a LoRA, not a model: load it with the node Load LoRA (VD), or merge it with "
            f"`convert MODEL OUT --lora FILE`; {some}."
        )
    raise ValueError(f"{path} holds no part of Versatile Diffusion that is known here; {some}.")
