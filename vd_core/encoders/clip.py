"""CLIP as Versatile Diffusion's context encoder: text and pictures -> normalised tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ClipConfig
from ..pictures import WILDEST, check_range, check_tensor, resize_and_crop
from ..placement import check_device, convert_for
from ..tokenizers import list_texts

if TYPE_CHECKING:  # transformers takes seconds to import: the functions that need it import it
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Clip(nn.Module):
    """Both towers of a CLIP; `towers` says which are built, the other is None.

    tokenizer: list[str] -> token ids [B, positions], padded with the end token.

    Tokens have the precision of the weights. What is given must be on their device.
    """

    def __init__(
        self,
        config: ClipConfig,
        tokenizer: Callable[[Sequence[str]], Tensor] | None = None,
        towers: Sequence[str] = ("text", "vision"),
    ):
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.text_tower = build_text_tower(config) if "text" in towers else None
        self.vision_tower = build_vision_tower(config) if "vision" in towers else None
        self.eval()

    @property
    def text(self) -> CLIPTextModelWithProjection:
        """The text tower. Raises ValueError without one."""
        if self.text_tower is None:
            raise ValueError("This CLIP has no text tower: load the part clip_text to encode prompts.")
        return self.text_tower

    @property
    def vision(self) -> CLIPVisionModelWithProjection:
        """The vision tower. Raises ValueError without one."""
        if self.vision_tower is None:
            raise ValueError("This CLIP has no vision tower: load the part clip_vision to encode pictures.")
        return self.vision_tower

    def encode_text(self, texts: str | Sequence[str]) -> Tensor:
        """Encode prompts, one or several, as tokens [B, positions, projection_dim].

        Padding tokens are part of the context, as in the official model. Raises ValueError for no prompt, for
        what are no strings, and without a text tower.
        """
        return self.encode_ids(self.tokenize(texts))

    def tokenize(self, texts: str | Sequence[str]) -> Tensor:
        """Turn prompts, one or several, into token ids [B, positions]. Raises ValueError for what are no
        prompts.
        """
        prompts = list_texts(texts)
        if not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"CLIP encodes a prompt or a list of at least one prompt, got {texts!r}.")
        if self.tokenizer is None:
            raise ValueError("This CLIP has no text tower: load the part clip_text to encode prompts.")
        return self.tokenizer(prompts)

    def encode_ids(self, ids: Tensor) -> Tensor:
        """Encode token ids [B, positions] as [B, positions, projection_dim]; the first end token has norm 1.

        Every token is projected, then all are divided by the norm of the projected end token. Raises
        ValueError without a text tower.
        """
        tokens, ends = self.project_ids(ids)
        return tokens / ends.norm(dim=-1)[:, None, None]

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """Embed prompts globally, [B, projection_dim] of norm 1; pictures likewise by the first of their
        tokens.
        """
        return F.normalize(self.project_ids(self.tokenize(texts))[1], dim=-1)

    def project_ids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Project token ids [B, positions] to [B, positions, projection_dim]; also returns those at the end
        tokens.

        Ids are moved to the weights' device. Raises ValueError without a text tower and for ids beyond the
        vocabulary.
        """
        tower = self.text
        if (last := int(ids.max())) >= (size := self.config.text.vocab_size):
            raise ValueError(
                f"A prompt has the token {last}, but this CLIP knows {size}: its file lacks the vocabulary "
                "of its own, clip_merges."
            )
        check_device(tower.text_projection.weight, "text encoder")
        ids = ids.to(tower.text_projection.weight.device)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        hidden = tower.text_model(input_ids=ids, position_ids=positions).last_hidden_state
        tokens = tower.text_projection(hidden)
        ends = ids.argmax(dim=1)  # the end token has the largest id; argmax finds its first occurrence
        return tokens, tokens[torch.arange(len(ids)), ends]

    def encode_image(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Encode pictures [B, 3, H, W] in 0..1 as tokens [B, 1 + patches, projection_dim]; token 0 is global.

        masks: [B, 1, h, w], 1 = keep. Quirk kept: neither pixels nor attention are masked. The embeddings and
               the final tokens are multiplied by the mask's mean over each patch, so a removed token still
               takes part as a constant.

        Pictures are resized as 8-bit ones. Those that require gradients are resized without rounding, so that
        gradients reach them. Raises ValueError for other shapes, values that are not in 0..1, and without a
        vision tower.
        """
        check_range(images)
        check_masks(images, masks)
        size = self.config.image_size
        resized = crop_center(images, size) if images.requires_grad else resize_and_crop(images.float(), size)
        weights = None if masks is None else weigh_by_masks(masks, size, self.config.patch_size)
        return self.encode_pixels(normalise(resized), weights)

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed pictures [B, 3, H, W], about 0..1, globally: [B, projection_dim] of norm 1.

        It is token 0 of `encode_image` but for the rounding to 8 bit, so that gradients pass. Raises
        ValueError for other shapes, and values that are clearly in 0..255.
        """
        check_range(images, WILDEST)
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"Pictures must be [batch, 3, height, width], got {list(images.shape)}.")
        return self.encode_pixels(normalise(crop_center(images, self.config.image_size)))[:, 0]

    def encode_pixels(self, pixels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Encode normalised pixels [B, 3, S, S] as [B, 1 + patches, projection_dim]; token 0 has norm 1.

        weights: [1 or B, 1 + patches, 1] of `weigh_by_masks`.

        Raises ValueError without a vision tower, and for pixels on another device than the weights.
        """
        projection, vision = self.vision.visual_projection, self.vision.vision_model
        pixels = convert_for(projection.weight, pixels, "pictures", "image encoder")
        weights = None if weights is None else weights.to(pixels)
        # Written out, because the embedding module keeps its position ids in a buffer that building on meta
        # would lose.
        embedding = vision.embeddings
        patches = rearrange(embedding.patch_embedding(pixels), "b d h w -> b (h w) d")
        first = embedding.class_embedding.to(patches).expand(len(patches), 1, -1)
        hidden = torch.cat([first, patches], dim=1) + embedding.position_embedding.weight
        if weights is not None:
            hidden = hidden * weights
        hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
        tokens = projection(vision.post_layernorm(hidden))
        tokens = tokens / tokens[:, :1].norm(dim=-1, keepdim=True)
        return tokens if weights is None else tokens * weights


def check_masks(images: Tensor, masks: Tensor | None) -> None:
    """Raise a ValueError unless masks are [1 or B, 1, h, w] in 0..1 for pictures [B, 3, H, W], or None."""
    if masks is None:
        return
    check_tensor(masks)
    check_range(masks.float())
    if masks.ndim != 4 or masks.shape[1] != 1 or masks.shape[0] not in (1, images.shape[0]):
        raise ValueError(
            f"Masks must be [batch, 1, height, width], one for all {images.shape[0]} pictures or one for "
            f"each, got {list(masks.shape)}."
        )


def weigh_by_masks(masks: Tensor, image_size: int, patch_size: int) -> Tensor:
    """Compute the share of each token that masks [B, 1, h, w] keep, [B, 1 + patches, 1].

    Token 0 gets the mean of the whole mask.
    """
    masks = F.interpolate(
        masks.float().clamp(0, 1), (image_size, image_size), mode="bilinear", align_corners=False
    )
    patches = rearrange(F.avg_pool2d(masks, patch_size), "b 1 h w -> b (h w) 1")
    return torch.cat([masks.mean(dim=(2, 3))[:, None], patches], dim=1)


def crop_center(images: Tensor, size: int) -> Tensor:
    """Resize and crop pictures [B, 3, H, W] as `resize_and_crop`, differentiably and without rounding."""
    height, width = images.shape[2:]
    height, width = (size * side // min(height, width) for side in (height, width))
    resized = F.interpolate(images, (height, width), mode="bicubic", antialias=True, align_corners=False)
    top, left = (height - size) // 2, (width - size) // 2
    return resized[..., top : top + size, left : left + size]


def normalise(images: Tensor) -> Tensor:
    """Turn pictures [B, 3, H, W] in 0..1 into CLIP's normalised pixels."""
    mean, std = (torch.tensor(values).to(images)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def build_text_tower(config: ClipConfig) -> CLIPTextModelWithProjection:
    """Build the text half.

    The start, end and padding ids are the vocabulary's last two, as CLIP's tokenizer makes them.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes = config.text
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.width,
            intermediate_size=sizes.mlp_width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            max_position_embeddings=sizes.positions,
            projection_dim=config.projection_dim,
            bos_token_id=sizes.vocab_size - 2,
            eos_token_id=sizes.vocab_size - 1,
            pad_token_id=sizes.vocab_size - 1,
        )
    )


def build_vision_tower(config: ClipConfig) -> CLIPVisionModelWithProjection:
    """Build the image half."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = config.vision
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=sizes.width,
            intermediate_size=sizes.mlp_width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            image_size=config.image_size,
            patch_size=config.patch_size,
            projection_dim=config.projection_dim,
        )
    )
