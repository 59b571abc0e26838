"""Nodes that rank pictures and texts by CLIP."""

from __future__ import annotations

from torch import Tensor

from ..vd_core.ranking import best_first, clip_score, probabilities, similarity
from .choices import CLIP, long_text, socket, whole
from .host import host
from .images import to_rgb
from .text import split_lines

SAME_CLIP = socket(
    "CLIP_VISION", "From Load Versatile Diffusion or Load CLIP Vision (VD), of the same model as clip."
)
BEST = whole(0, 0, 4096, "How many to keep, the best ones; 0 keeps all.")
SCORES = "The cosine of each that is kept, best first."


def compute_cosines(clip, clip_vision, image: Tensor, texts: list[str]) -> Tensor:
    """Compute the cosine of every picture of an IMAGE with every text, [N, M]."""
    return similarity(host.encode_image(clip_vision, to_rgb(image), None)[:, 0], host.embed_text(clip, texts))


def describe(cosine: Tensor, order: list[int], names: list[str]) -> list[str]:
    """Write one line for each of `order`: its rank, its name, and its figures among all of cosine [N]."""
    figures = zip(cosine.tolist(), clip_score(cosine).tolist(), probabilities(cosine).tolist(), strict=True)
    lines = [
        f"{name}: cosine {c:.4f}, CLIPScore {s:.4f}, probability {p:.4f}"
        for name, (c, s, p) in zip(names, figures, strict=True)
    ]
    return [f"{rank}. {lines[i]}" for rank, i in enumerate(order, start=1)]


class VD_RankImages:
    """Sort pictures by how well they show a text."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Sorts pictures by how well they show a text, as CLIP sees it, and keeps the best: make eight, take "
        "the best two."
    )
    SEARCH_ALIASES = ["clip score", "clipscore", "best of n", "rerank", "aesthetic", "sort images"]
    RETURN_TYPES = ("IMAGE", "STRING", "FLOAT")
    RETURN_NAMES = ("IMAGE", "report", "scores")
    OUTPUT_IS_LIST = (False, False, True)
    OUTPUT_TOOLTIPS = (
        "The pictures, best first.",
        "A line for each: its rank, its number and its scores; for Preview Any.",
        SCORES,
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": CLIP,
                "clip_vision": SAME_CLIP,
                "image": socket("IMAGE", "The pictures to sort, as one batch."),
                "text": long_text("What they should show."),
                "best": BEST,
            }
        }

    def execute(self, clip, clip_vision, image, text, best):
        cosine = compute_cosines(clip, clip_vision, image, [text])[:, 0]
        order = best_first(cosine, best)
        report = describe(cosine, order, [f"picture {number}" for number in range(1, len(image) + 1)])
        return {"ui": {"text": report}, "result": (image[order], "\n".join(report), cosine[order].tolist())}


class VD_RankTexts:
    """Sort texts by how well they say what a picture shows."""

    CATEGORY = "VersatileDiffusion/text"
    DESCRIPTION = (
        "Sorts texts by how well they say what a picture shows, as CLIP sees it, and keeps the best: of many "
        "captions, or of labels, which makes it a classifier without training."
    )
    SEARCH_ALIASES = ["clip score", "clipscore", "best of n", "rerank", "captions", "zero-shot", "classify"]
    RETURN_TYPES = ("STRING", "STRING", "STRING", "FLOAT")
    RETURN_NAMES = ("text", "texts", "report", "scores")
    OUTPUT_IS_LIST = (False, True, False, True)
    OUTPUT_TOOLTIPS = (
        "The texts, best first, one per line.",
        "The texts one by one.",
        "A line for each: its rank and its scores; for Preview Any. “not sure” marks a text whose cosine is "
        "below that of nine in ten right captions, which is known for the embedded model.",
        SCORES,
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": CLIP,
                "clip_vision": SAME_CLIP,
                "image": socket("IMAGE", "The picture; for several, the mean of their cosines counts."),
                "texts": long_text("One text per line: text of Latent to Text (VD)."),
                "best": BEST,
            }
        }

    def execute(self, clip, clip_vision, image, texts, best):
        lines = split_lines(texts)
        cosine = compute_cosines(clip, clip_vision, image, lines).mean(dim=0)
        order = best_first(cosine, best)
        kept, bound = [lines[i] for i in order], host.doubt_below(clip_vision)
        sure = [
            line if c >= bound else f"not sure: {line}"
            for line, c in zip(lines, cosine.tolist(), strict=True)
        ]
        report = describe(cosine, order, sure)
        return {
            "ui": {"text": report},
            "result": ("\n".join(kept), kept, "\n".join(report), cosine[order].tolist()),
        }
