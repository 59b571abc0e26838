"""Training of the small CLIP: contrastive (Radford et al. 2021), names and styles apart, on features that
closed forms teach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..encoders.clip import Clip, normalise
from .dataset import CaptionedPictures, draw_partners, write_style_caption
from .outlines import BINS, MAGNITUDES, NameSpace, compute_outlines, compute_surfaces

CELL = BINS + len(MAGNITUDES) - 1 + 12  # what the closed forms say about each patch
# Share of the steps that see half of the patches (FLIP, Li et al. 2023): cheaper, and an augmentation
HALF = 0.7
# Of the pictures, this share keeps its colours and as much again is given half of another picture in the same
# style, so that styles are learned as such and not known by heart; of the others, half change their colours
# and half are drawn in ink.
PLAIN = 0.3
# Share of the pictures that are mirrored at most: turning and scaling softens what tells styles apart
STRAIGHT = 0.4


class ContrastiveClip(nn.Module):
    """A CLIP and what only its training needs: temperatures of the three losses, and heads for what the
    closed forms teach."""

    def __init__(self, clip: Clip, width: int = 64):
        super().__init__()
        self.clip = clip
        self.log_scales = nn.Parameter(torch.full((3,), 10.0).log())
        self.name_space = nn.Linear(clip.config.projection_dim, width)
        self.cells = nn.Linear(clip.config.projection_dim, CELL)
        self.grid = clip.config.image_size // clip.config.patch_size
        embeddings = clip.vision.vision_model.embeddings
        # Small random positions drown in the patches: the encoder would take long to learn where they are
        with torch.no_grad():
            embeddings.position_embedding.weight[1:] = 0.5 * compute_positions(
                self.grid, clip.config.vision.width
            )

    def see(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """Encode normalised pixels [B, 3, S, S] as `Clip.encode_pixels` does, from the patches `kept` [B, n]
        alone."""
        tower = self.clip.vision
        vision, embeddings = tower.vision_model, tower.vision_model.embeddings
        patches = (
            rearrange(embeddings.patch_embedding(pixels), "b d h w -> b (h w) d")
            + embeddings.position_embedding.weight[1:]
        )
        patches = patches[torch.arange(len(kept))[:, None], kept]
        first = (
            (embeddings.class_embedding + embeddings.position_embedding.weight[0])
            .to(patches)
            .expand(len(patches), 1, -1)
        )
        hidden = vision.encoder(
            inputs_embeds=vision.pre_layrnorm(torch.cat([first, patches], dim=1))
        ).last_hidden_state
        tokens = tower.visual_projection(vision.post_layernorm(hidden)).float()
        return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)

    def read(self, ids: Tensor) -> Tensor:
        """Embed texts from their token ids [B, positions]: [B, projection_dim], of norm 1."""
        return self.clip.encode_ids(ids)[torch.arange(len(ids)), ids.argmax(dim=1)].float()


def compute_positions(grid: int, width: int) -> Tensor:
    """Compute sines and cosines of row and column, [grid * grid, width] (as in ViT-MAE, He et al. 2022)."""
    frequencies = 100 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [side.flatten()[:, None] * frequencies for side in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def distort(images: Tensor, generator: torch.Generator, strength: float | Tensor = 1.0) -> Tensor:
    """Turn, scale, shift and mirror each picture [B, 3, S, S] a little at random; what comes in from outside
    repeats the border.

    strength: of all but the mirroring, for all pictures or one for each, [B].
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, scale = uniform(-0.3, 0.3) * strength, 1 + uniform(-0.2, 0.2) * strength
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift = [uniform(-0.15, 0.15) * strength for _ in range(2)]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = (
        torch.stack([cos * mirror, -sin, shift[0]], dim=1),
        torch.stack([sin * mirror, cos, shift[1]], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recolour(images: Tensor, generator: torch.Generator, grey: float = 0.35) -> Tensor:
    """Change the colours of each picture [B, 3, S, S] in 0..1: channels mixed at random, a share `grey` of
    them into grey, and another gamma.

    White stays white and black stays black.
    """
    count = len(images)
    mix = torch.eye(3) + 0.5 * torch.randn(count, 3, 3, generator=generator)
    mix = mix / mix.sum(dim=2, keepdim=True).clamp(min=0.3)
    mix = torch.where(torch.rand(count, 1, 1, generator=generator) < grey, torch.full((3, 3), 1 / 3), mix)
    gamma = (1.4 * torch.rand(count, 1, 1, 1, generator=generator) - 0.7).exp()
    return torch.einsum("bij,bjhw->bihw", mix, images).clamp(1e-4, 1) ** gamma


def draw_in_ink(images: Tensor, generator: torch.Generator) -> Tensor:
    """Redraw pictures [B, 3, S, S] in 0..1 in black lines on white: ink where it is darker than around (XDoG,
    Winnemöller et al. 2012)."""
    grey = images.mean(dim=1, keepdim=True)
    around = F.avg_pool2d(grey, 9, stride=1, padding=4, count_include_pad=False)
    spared = 0.05 + 0.1 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return (40 * (grey - around + spared)).sigmoid().expand_as(images)


def mix_halves(images: Tensor, style: Tensor, generator: torch.Generator) -> Tensor:
    """Replace one half, right or lower, of each picture [B, 3, S, S] by that of another in the same style
    [B]: it shows no thing any more, but a style."""
    half = torch.arange(images.shape[-1]) >= images.shape[-1] // 2
    right = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(
        torch.where(right, half, half[:, None]), images[draw_partners(style, generator)], images
    )


@dataclass(frozen=True)
class Texts:
    """Token ids of what is said about pictures: names [n, L], styles [s, L], captions of both [n, s, L]."""

    names: Tensor
    styles: Tensor
    captions: Tensor

    @classmethod
    def of(cls, data: CaptionedPictures, tokenize: Callable[[list[str]], Tensor]) -> Texts:
        """Tokenize all names, styles and captions that the data can have."""

        def ids(texts: list[str]) -> Tensor:
            rows = tokenize(texts)
            # The end token has the largest id; behind it is padding
            return rows[:, : int(rows.argmax(dim=1).max()) + 1]

        captions = ids(data.all_captions)
        shape = (len(data.names), len(data.styles))
        return cls(
            ids(list(data.names)),
            ids([write_style_caption(style) for style in data.styles]),
            captions.unflatten(0, shape),
        )


def contrastive_losses(images: Tensor, name: Tensor, style: Tensor, texts: Texts, names_per_batch: int):
    """Make a loss function for `loop.fit` over aligned pictures [N, 3, S, S] in 0..1 and the numbers of their
    names and styles [N].

    A batch holds all pictures of some names: styles are told apart on one thing, and names across styles.
    Losses add up:
    - the name, among those of the batch and as many others, whatever the colours, also of drawings in ink;
    - the style, for pictures with their own colours, whole or of two halves;
    - the caption among those of the batch, for pictures as they are;
    - the picture's place in the `NameSpace` of these pictures, from its global token;
    - the outline and the surface of each patch, from its token.
    """
    space = NameSpace.fit(images, name)

    def losses(model: ContrastiveClip, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        drawn = torch.randperm(len(texts.names), generator=generator)[: 2 * names_per_batch]
        chosen = torch.isin(name, drawn[:names_per_batch]).nonzero()[:, 0]
        straight = torch.rand(len(chosen), generator=generator) < STRAIGHT
        pictures = distort(images[chosen], generator, strength=0.7 * ~straight)
        place = space.embed(compute_outlines(pictures))
        kind = torch.rand(len(chosen), generator=generator)
        kind[0] = 0  # one at least is plain
        plain, halves, inked = kind < PLAIN, (kind >= PLAIN) & (kind < 2 * PLAIN), kind > (1 + 2 * PLAIN) / 2
        named, styled = ~halves, plain | halves
        mixed = mix_halves(pictures, style[chosen], generator)
        drawing, recoloured = draw_in_ink(pictures, generator), recolour(pictures, generator)
        for which, variant in ((halves, mixed), (inked, drawing), (~styled & ~inked, recoloured)):
            pictures = torch.where(which[:, None, None, None], variant, pictures)
        cells = (
            torch.cat([compute_outlines(pictures, model.grid), compute_surfaces(pictures, model.grid)], dim=1)
            .flatten(2)
            .mT
        )
        patches = torch.rand(len(chosen), model.grid**2, generator=generator).argsort(dim=1)
        kept = patches[:, : model.grid**2 // 2] if torch.rand(1, generator=generator) < HALF else patches
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.see(normalise(pictures), kept)
            names, styles = model.read(texts.names[drawn]), model.read(texts.styles)
            captions = model.read(texts.captions[name[chosen], style[chosen]][plain])
        scales = model.log_scales.exp().clamp(max=100)
        seen = tokens[:, 0]
        name_loss = F.cross_entropy(
            scales[0] * seen[named] @ names.T, (name[chosen][:, None] == drawn).int().argmax(dim=1)[named]
        )
        style_loss = F.cross_entropy(scales[1] * seen[styled] @ styles.T, style[chosen][styled])
        logits = scales[2] * seen[plain] @ captions.T
        own = torch.arange(len(logits))
        caption_loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        place_loss = 1 - F.cosine_similarity(model.name_space(seen[named]), place[named]).mean()
        cell_loss = F.mse_loss(model.cells(tokens[:, 1:]), cells[torch.arange(len(kept))[:, None], kept])
        yield "clip", name_loss + 2 * style_loss + 0.5 * caption_loss + 4 * place_loss + 16 * cell_loss

    return losses


@torch.no_grad()
def measure_retrieval(clip: Clip, data: CaptionedPictures, indices: Tensor) -> dict[str, float]:
    """Measure how well pictures find their texts, as shares of right ones: the name, the style, the name when
    the style is given, and the caption.

    "name, STYLE" is the name, for the pictures of one style.
    """
    images = torch.cat([clip.encode_image(chunk)[:, 0] for chunk in data.pixels[indices].split(128)])
    name, style = data.name[indices], data.style[indices]
    texts = Texts.of(data, clip.tokenize)

    def read(ids: Tensor) -> Tensor:
        return clip.encode_ids(ids)[torch.arange(len(ids)), ids.argmax(dim=1)]

    captions = (images @ read(texts.captions.flatten(0, 1)).T).unflatten(1, texts.captions.shape[:2])
    names = (images @ read(texts.names).T).argmax(dim=1) == name
    right = {
        "name": names,
        "style": (images @ read(texts.styles).T).argmax(dim=1) == style,
        "name, style given": captions[torch.arange(len(name)), :, style].argmax(dim=1) == name,
        "caption": captions.flatten(1).argmax(dim=1) == name * len(data.styles) + style,
    } | {f"name, {word}": names[style == number] for number, word in enumerate(data.styles)}
    return {key: round(float(values.float().mean()), 3) for key, values in right.items()}
