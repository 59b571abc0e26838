"""Sizes of every part.

The defaults are Versatile Diffusion v1.0; `VDConfig.tiny()` is a test model of the same shape.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from torch import nn

# Limits of the sizes in a file, so that a few bytes cannot make us build for hours.
LARGEST = 1 << 17  # of any size; vocabularies have the largest ones
DEEPEST = 48  # of what counts layers
MOST_KINDS = 16  # of data, and of contexts
MOST_LAYERS = (
    320  # of the diffuser, all kinds together, and of the image autoencoder (v1.0: about 110 and 30)
)
COUNTS = ("layers", "num_res_blocks")
MAY_BE_ZERO = (*COUNTS, "vocab_size", "doubt_below")
GROUPS = 32  # of every GroupNorm: channels are multiples of it


@dataclass(frozen=True)
class DataConfig:
    """One kind of output: its latent and the data layers that make it.

    `layers` is "2d" (residual convolutions on a latent [B, channels, H, W]) or "0d" (fully connected residual
    blocks on a latent [B, channels]). `latent_scale` takes a latent of the autoencoder to the diffuser's
    unit-variance space. `preview` shows such a latent roughly: the red, green and blue in -1..1 of
    each channel, and a last row to add; empty if unknown.
    """

    layers: str
    channels: int
    latent_scale: float = 1.0
    second_dim: int = 4  # 0d only: inside, activations are [B, C, second_dim, 1]
    preview: tuple[tuple[float, float, float], ...] = ()
    side: int = 64  # 2d only: H and W of the latents that it was trained on

    def __post_init__(self) -> None:
        if not self.latent_scale > 0:
            raise ValueError(f"latent_scale must be above 0, got {self.latent_scale}")


@dataclass(frozen=True)
class DiffuserConfig:
    """Global, data and context layers (VD paper, section 3.2).

    One entry in `data` per output kind, one in `context` per condition kind.
    """

    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)  # per level going in; going out there is one more
    attention: tuple[bool, ...] = (True, True, True, False)  # per level; the middle always has context layers
    num_heads: int = 8
    data: dict[str, DataConfig] = field(
        default_factory=lambda: {
            "image": DataConfig("2d", channels=4, latent_scale=0.18215),
            "text": DataConfig("0d", channels=768),
        }
    )
    context: dict[str, int] = field(default_factory=lambda: {"image": 768, "text": 768})  # kind: token width


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule: betas linear in their square root from `beta_start` to `beta_end`."""

    timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction: str = "eps"  # what the network predicts: "eps", or "v" (Salimans & Ho 2022)

    def __post_init__(self) -> None:
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"betas must rise between 0 and 1, got {self.beta_start} to {self.beta_end}")
        if self.prediction not in ("eps", "v"):
            raise ValueError(f"prediction must be eps or v, got {self.prediction!r}")


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one transformer encoder or decoder."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int
    vocab_size: int = 0  # 0 for a vision tower


@dataclass(frozen=True)
class ClipConfig:
    """CLIP ViT-L/14."""

    text: TransformerConfig = TransformerConfig(768, 12, 12, 3072, positions=77, vocab_size=49408)
    vision: TransformerConfig = TransformerConfig(1024, 24, 16, 4096, positions=257)
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 768
    # cosine of a picture and a caption below which the caption is in doubt, for about a tenth of the right
    # ones lie there; -1: unknown
    doubt_below: float = -1.0


@dataclass(frozen=True)
class ImageVAEConfig:
    """AutoencoderKL of Stable Diffusion (kl-f8)."""

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4


@dataclass(frozen=True)
class TextVAEConfig:
    """Optimus: BERT-base-cased encoder, GPT-2 small decoder; the last three GPT-2 ids are <PAD>, <BOS>,
    <EOS>.
    """

    encoder: TransformerConfig = TransformerConfig(768, 12, 12, 3072, positions=512, vocab_size=28996)
    decoder: TransformerConfig = TransformerConfig(768, 12, 12, 3072, positions=1024, vocab_size=50260)
    latent_width: int = 768
    max_pieces: int = 77  # word pieces that the encoder reads, [CLS] and [SEP] not counted
    max_tokens: int = 30  # tokens that the decoder writes, <BOS> and <EOS> counted


@dataclass(frozen=True)
class VDConfig:
    """The whole model."""

    diffuser: DiffuserConfig = DiffuserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip: ClipConfig = ClipConfig()
    image_vae: ImageVAEConfig = ImageVAEConfig()
    text_vae: TextVAEConfig = TextVAEConfig()

    @classmethod
    def tiny(cls) -> VDConfig:
        """Return a model of a few hundred thousand parameters with every kind of layer, for tests."""
        return cls(
            diffuser=DiffuserConfig(
                model_channels=32,
                channel_mult=(1, 2),
                num_res_blocks=(1, 1),
                attention=(True, False),
                num_heads=4,
                data={
                    "image": DataConfig("2d", channels=4, latent_scale=0.18215, side=8),
                    "text": DataConfig("0d", channels=24, second_dim=2),
                },
                context={"image": 40, "text": 40},
            ),
            clip=ClipConfig(
                text=TransformerConfig(32, 2, 4, 64, positions=77, vocab_size=49408),
                vision=TransformerConfig(48, 2, 4, 96, positions=17),
                image_size=56,
                patch_size=14,
                projection_dim=40,
            ),
            image_vae=ImageVAEConfig(channels=32, channel_mult=(1, 1, 1, 1), num_res_blocks=1),
            text_vae=TextVAEConfig(
                encoder=TransformerConfig(32, 2, 4, 48, positions=90, vocab_size=94),
                decoder=TransformerConfig(16, 2, 2, 64, positions=48, vocab_size=340),
                latent_width=24,
            ),
        )

    def to_dict(self) -> dict:
        """Return nested plain dictionaries and lists, as stored in the header of a model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> VDConfig:
        """Build a config from parsed JSON: the inverse of `to_dict`.

        Raises TypeError on a wrong field, ValueError on a value that no model has.
        """

        def transformer(sizes: dict) -> TransformerConfig:
            return TransformerConfig(**sizes)

        def data(sizes: dict) -> DataConfig:
            return DataConfig(**{**sizes, "preview": tuple(tuple(row) for row in sizes.get("preview", ()))})

        def tuples(sizes: dict) -> dict:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}

        diffuser, clip, text_vae = dict(values["diffuser"]), dict(values["clip"]), dict(values["text_vae"])
        diffuser["data"] = {kind: data(sizes) for kind, sizes in diffuser["data"].items()}
        for tower in ("text", "vision"):
            clip[tower] = transformer(clip[tower])
        for part in ("encoder", "decoder"):
            text_vae[part] = transformer(text_vae[part])
        config = cls(
            diffuser=DiffuserConfig(**tuples(diffuser)),
            schedule=ScheduleConfig(**values["schedule"]),
            clip=ClipConfig(**clip),
            image_vae=ImageVAEConfig(**tuples(values["image_vae"])),
            text_vae=TextVAEConfig(**text_vae),
        )
        check_types(config)
        check_together(config)
        return config


def token_shape(config: VDConfig, kind: str) -> tuple[int, int]:
    """Return how many tokens CLIP makes of one picture or one text, and their width."""
    towers = {"image": config.clip.vision, "text": config.clip.text}
    return towers[kind].positions, config.diffuser.context[kind]


def latent_shape(config: VDConfig, kind: str) -> tuple[int, ...]:
    """Return the shape of one sample's latent: (channels, height, width), of texts (channels,)."""
    data = config.diffuser.data[kind]
    return (data.channels, data.side, data.side) if data.layers == "2d" else (data.channels,)


def recommend_settings(config: VDConfig) -> tuple[int, int, float]:
    """Return the side of pictures in pixels, the steps and the guidance scale that suit a model best.

    Those of version 1.0 are the official app's, which models that draw no pictures get too. Models of small
    pictures get those of the embedded model.
    """
    image = config.diffuser.data.get("image")
    side = image.side * 2 ** (len(config.image_vae.channel_mult) - 1) if image else 512
    return (side, 50, 7.5) if side >= 256 else (side, 20, 2.0)


def check_types(sizes: Any, where: str = "") -> None:
    """Raise ValueError for a value of another type than its field has, or beyond what any model has; the end
    of a sentence.
    """
    kinds = get_type_hints(type(sizes))
    for entry in fields(sizes):
        name, value = f"{where}{entry.name}", getattr(sizes, entry.name)
        most = DEEPEST if entry.name in COUNTS else LARGEST
        if not fits(value, kinds[entry.name], most) or value == 0 and entry.name not in MAY_BE_ZERO:
            raise ValueError(f"{name} is {str(value)[:80]}, which no model has")
        for key, member in value.items() if isinstance(value, dict) else [("", value)]:
            if is_dataclass(member):
                check_types(member, f"{name}.{key}." if key else f"{name}.")


def check_together(config: VDConfig) -> None:
    """Raise ValueError for sizes that each are possible, but not together; the end of a sentence."""
    diffuser, clip, text_vae = config.diffuser, config.clip, config.text_vae
    for group, kinds in (("data", diffuser.data), ("context", diffuser.context)):
        if not 1 <= len(kinds) <= MOST_KINDS:
            raise ValueError(f"diffuser.{group} has {len(kinds)} kinds where a model has 1 to {MOST_KINDS}")
        for kind in kinds:
            if not is_kind(kind):
                raise ValueError(
                    f"diffuser.{group} has a kind called {kind[:40]!r}: kinds are words like text or image"
                )
    levels = {len(diffuser.channel_mult), len(diffuser.num_res_blocks), len(diffuser.attention)}
    if len(levels) != 1 or levels == {0}:
        raise ValueError(
            "channel_mult, num_res_blocks and attention of the diffuser do not have one value per level"
        )
    layers = sum(2 * blocks + 3 for blocks in diffuser.num_res_blocks) * (
        len(diffuser.data) + len(diffuser.context)
    )
    if layers > MOST_LAYERS:
        raise ValueError(
            f"the diffuser would have about {layers} layers where a model has at most {MOST_LAYERS}"
        )
    if diffuser.model_channels % GROUPS or any(
        diffuser.model_channels * mult % diffuser.num_heads for mult in diffuser.channel_mult
    ):
        raise ValueError(
            f"diffuser.model_channels is {diffuser.model_channels}: a multiple of {GROUPS} is needed that "
            f"{diffuser.num_heads} heads divide at every level"
        )
    for name, data in diffuser.data.items():
        if data.layers not in ("2d", "0d"):
            raise ValueError(
                f"diffuser.data.{name}.layers is {data.layers[:40]!r}, which is neither 2d nor 0d"
            )
    layers = len(config.image_vae.channel_mult) * (2 * config.image_vae.num_res_blocks + 3)
    if not 0 < layers <= MOST_LAYERS or config.image_vae.channels % GROUPS:
        raise ValueError("image_vae has no levels, too many layers, or channels that are no multiple of 32")
    towers = {
        "clip.text": clip.text,
        "clip.vision": clip.vision,
        "text_vae.encoder": text_vae.encoder,
        "text_vae.decoder": text_vae.decoder,
    }
    for name, tower in towers.items():
        if tower.width % tower.heads:
            raise ValueError(f"{name}.width is {tower.width}, which {tower.heads} heads do not divide")
    if (clip.image_size // clip.patch_size) ** 2 + 1 != clip.vision.positions:
        raise ValueError(
            f"clip.vision.positions is {clip.vision.positions}, which are not the patches of its pictures "
            "and one more"
        )
    if (
        text_vae.max_pieces + 2 > text_vae.encoder.positions
        or not 3 <= text_vae.max_tokens <= text_vae.decoder.positions
    ):
        raise ValueError(
            "text_vae reads or writes more tokens than its encoder and decoder have positions, or fewer than "
            "3"
        )


def is_kind(name: str) -> bool:
    """Tell whether a name can be that of a kind, as a part of files' keys and as a module's name."""
    return re.fullmatch("[a-z][a-z0-9_]{0,31}", name) is not None and not hasattr(nn.ModuleDict, name)


def fits(value: object, kind: type, most: int) -> bool:
    """Tell whether a value is of a type; numbers finite, whole ones within 0..most, tuples no longer than
    there are levels in a network."""
    inner = get_args(kind)
    if get_origin(kind) is tuple:
        kinds = inner[:1] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
        return (
            isinstance(value, tuple)
            and len(value) == len(kinds) <= DEEPEST
            and all(map(fits, value, kinds, [most] * len(kinds)))
        )
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(
            isinstance(key, str) and fits(member, inner[1], most) for key, member in value.items()
        )
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is not int or type(value) is int and 0 <= value <= most)
