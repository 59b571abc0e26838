"""Core's CLIP and CLIP_VISION for Versatile Diffusion: contexts from any that fit, and those that a model
file holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from comfy import model_management
from comfy.clip_model import CLIPEmbeddings, CLIPTextModel, CLIPVisionModelProjection
from comfy.clip_vision import ClipVisionModel
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel, SDTokenizer
from comfy.supported_models_base import ClipTarget
from torch import Tensor, nn
from torch.nn.functional import normalize

from ....vd_core.config import ClipConfig
from ....vd_core.encoders.clip import check_masks, crop_center, normalise, weigh_by_masks
from ....vd_core.pictures import resize_and_crop
from ....vd_core.tokenizers import ClipTokenizer, Vocabularies

if TYPE_CHECKING:
    from comfy.sd import CLIP


SD_WIDTH = 768  # of Stable Diffusion 1's tokens


def encode_text(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """Encode prompts as tokens [B, n, d], projected, and divided by the norm of the projected end token;
    weights in prompts change none of that. n is a multiple of CLIP's positions: core reads a long prompt in
    several pieces, and shorter ones are filled up with the tokens of an empty prompt.

    Raises ValueError for a CLIP that is not ViT-L/14's, or has no projection.
    """
    projection = find_projection(clip)

    def encode(text: str) -> Tensor:
        tokens = {
            key: [[(token, 1.0) for token, _ in row] for row in rows]
            for key, rows in clip.tokenize(text).items()
        }
        hidden, pooled = clip.encode_from_tokens(tokens, return_pooled="unprojected")
        weight = projection.weight.to(hidden)
        return hidden @ weight.T / (pooled @ weight.T).norm(dim=-1)[:, None, None]

    return pad_with_empty([encode(text) for text in texts], encode(""))


def embed_text(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """Embed texts, taken literally: [B, d], of norm 1; the embeddings of pictures are the first tokens of
    `encode_image`.

    Core reads a long text in several pieces: the first one counts. Raises ValueError as `encode_text`.
    """
    projection = find_projection(clip)
    tokens = [clip.tokenize(text, disable_weights=True) for text in texts]
    pooled = torch.cat([clip.encode_from_tokens(row, return_pooled="unprojected")[1] for row in tokens])
    return normalize(pooled @ projection.weight.to(pooled).T, dim=-1)


def weigh_tokens(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """Read the weight of each token of `encode_text`, [B, n], as core reads weights in prompts."""
    pieces = [[row for rows in clip.tokenize(text).values() for row in rows] for text in texts]
    longest = max(map(len, pieces)) * len(pieces[0][0])
    weights = torch.ones(len(texts), longest)
    for row, rows in zip(weights, pieces, strict=True):
        counts = torch.tensor([weight for piece in rows for _, weight in piece])
        row[: len(counts)] = counts
    return weights


def count_tokens(clip: CLIP, word: str) -> int:
    """Count the tokens that a word takes: those between the start token and the first end token."""
    ids = [token for token, *_ in next(iter(clip.tokenize(word).values()))[0]]
    return ids.index(ids[-1]) - 1


def conditioning_options(clip: CLIP, texts: Sequence[str]) -> tuple[dict, ...]:
    """Collect what core reads beside the tokens of each prompt: CLIP's hidden states as they are, for
    ControlNets of Stable Diffusion 1, if it is a CLIP of that size; and the hooks that Set CLIP Hooks hands
    on to models."""
    rows = [clip.encode_from_tokens(clip.tokenize(text)) for text in [*texts, ""]]
    fits = rows[-1].shape[2] == SD_WIDTH
    plain = pad_with_empty(rows[:-1], rows[-1]).split(1) if fits else [None] * len(texts)
    options = [{} if states is None else {"cross_attn_controlnet": states} for states in plain]
    return tuple(clip.add_hooks_to_dict(entry) for entry in options)


def pad_with_empty(rows: list[Tensor], empty: Tensor) -> Tensor:
    """Join tokens [1, n_i, d] in one batch: shorter rows are followed by the tokens of an empty prompt."""
    longest = max(row.shape[1] for row in rows)
    return torch.cat(
        [torch.cat([row, *[empty] * ((longest - row.shape[1]) // empty.shape[1])], dim=1) for row in rows]
    )


def find_projection(clip: CLIP) -> nn.Linear:
    """Find the layer that takes hidden states to CLIP's joint space. Raises ValueError for a CLIP of another
    kind and for one without a trained projection."""
    wanted = (
        "use Load CLIP (VD), or ComfyUI's Load CLIP with model.safetensors of "
        "huggingface.co/openai/clip-vit-large-patch14"
    )
    if getattr(clip.cond_stage_model, "clip", None) != "clip_l":
        raise ValueError(f"This is not the CLIP that Versatile Diffusion reads prompts with; {wanted}.")
    projection = clip.cond_stage_model.clip_l.transformer.text_projection
    if not is_trained(projection.weight.float().cpu()):
        raise ValueError(
            f"This CLIP has no text projection, as those in Stable Diffusion checkpoints; {wanted}."
        )
    return projection


def is_trained(weight: Tensor) -> bool:
    """Tell whether a projection came from a file: core leaves one that a file lacks as the identity or as the
    memory happens to be."""
    rows, columns = weight.shape
    identity = rows == columns and torch.equal(weight, torch.eye(rows))
    return not identity and bool(weight.isfinite().all()) and 1e-4 < float(weight.std()) < 1


def encode_image(clip_vision: ClipVisionModel, images: Tensor, masks: Tensor | None) -> Tensor:
    """Encode pictures [B, 3, H, W] in 0..1 under masks [B, 1, h, w] (1 = keep) as tokens [B, 1 + patches, d],
    as `Clip.encode_image` of vd_core.

    Raises ValueError for masks that do not fit, and for a vision model that is not CLIP's.
    """
    check_masks(images, masks)
    patch_size = find_network(clip_vision).vision_model.embeddings.patch_embedding.kernel_size[0]
    model_management.load_model_gpu(clip_vision.patcher)
    pixels = normalise(resize_and_crop(images.float(), clip_vision.image_size))
    weights = None if masks is None else weigh_by_masks(masks, clip_vision.image_size, patch_size)
    return encode_pixels(clip_vision, pixels, weights).to(model_management.intermediate_device())


def doubt_below(clip_vision: ClipVisionModel) -> float:
    """Return the cosine of a picture and a caption below which the caption is in doubt; -1: unknown, as for
    all that core loaded."""
    return getattr(clip_vision, "doubt_below", -1.0)


def embed_image(clip_vision: ClipVisionModel, images: Tensor) -> Tensor:
    """Embed pictures [B, 3, H, W], about 0..1, globally: [B, d], of norm 1; differentiable. A sampler has
    loaded the model."""
    return encode_pixels(clip_vision, normalise(crop_center(images.float(), clip_vision.image_size)))[:, 0]


def encode_pixels(clip_vision: ClipVisionModel, pixels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Encode pixels as `Clip.encode_pixels` of vd_core, by a model that is loaded."""
    model = clip_vision.model
    vision = model.vision_model
    hidden = vision.embeddings(pixels.to(clip_vision.load_device))
    weights = None if weights is None else weights.to(hidden)
    hidden = hidden if weights is None else hidden * weights
    tokens = model.visual_projection(vision.post_layernorm(vision.encoder(vision.pre_layrnorm(hidden))[0]))
    tokens = tokens / tokens[:, :1].norm(dim=-1, keepdim=True)
    return (tokens if weights is None else tokens * weights).float()


def find_network(clip_vision: ClipVisionModel) -> CLIPVisionModelProjection:
    """Find the network of a CLIP_VISION. Raises ValueError for one that is not CLIP's."""
    model = clip_vision.model
    if (
        not isinstance(model, CLIPVisionModelProjection)
        or getattr(model.vision_model.embeddings, "class_embedding", None) is None
    ):
        raise ValueError(
            "This is not the vision model that Versatile Diffusion looks at pictures with; use Load CLIP "
            "Vision (VD), or ComfyUI's Load CLIP Vision with model.safetensors of "
            "huggingface.co/openai/clip-vit-large-patch14."
        )
    return model


class TextTower(CLIPTextModel):
    """Core's text tower with a vocabulary and a projection of any size."""

    def __init__(self, config: ClipConfig, sizes: dict, dtype, device, operations):
        super().__init__(sizes, dtype, device, operations)
        text = config.text
        self.text_model.embeddings = CLIPEmbeddings(
            text.width, text.vocab_size, text.positions, dtype, device, operations
        )
        self.text_projection = operations.Linear(
            text.width, config.projection_dim, bias=False, dtype=dtype, device=device
        )


class BundledTokenizer:
    """The tokenizer of a model file, called as core calls transformers' one."""

    def __init__(self, tokenizer: ClipTokenizer):
        self.bpe = tokenizer.bpe

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [self.bpe.sot_token_id, *self.bpe.encode(text), self.bpe.eot_token_id]}

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token."""
        return self.bpe.encoder


def clip_target(config: ClipConfig, vocabularies: Vocabularies | None) -> ClipTarget:
    """Describe what core builds a CLIP from: SD 1's classes in the sizes of a model, with the vocabulary of
    its file or CLIP's own."""
    text = config.text
    sizes = {
        "num_hidden_layers": text.layers,
        "hidden_size": text.width,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp_width,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": text.positions,
        "eos_token_id": text.vocab_size - 1,
    }
    tower = partial(
        SDClipModel,
        max_length=text.positions,
        textmodel_json_config=sizes,
        model_class=partial(TextTower, config),
        special_tokens={"start": text.vocab_size - 2, "end": text.vocab_size - 1, "pad": text.vocab_size - 1},
        return_projected_pooled=False,
    )
    tokenizer = SD1Tokenizer
    if vocabularies is not None and vocabularies.clip_merges is not None:
        bundled = BundledTokenizer(ClipTokenizer(vocabularies.clip_merges, text.positions))
        source = SimpleNamespace(from_pretrained=lambda path: bundled)
        parts = partial(
            SDTokenizer, max_length=text.positions, embedding_size=text.width, tokenizer_class=source
        )
        tokenizer = partial(SD1Tokenizer, tokenizer=parts)
    return ClipTarget(tokenizer, partial(SD1ClipModel, clip_model=tower))
