"""Graphs of what is ranked by CLIP: name -> Graph."""

from graph import (
    APPLE,
    CLIP,
    CLIP_VISION,
    IMAGE,
    PICTURE,
    ROCKET,
    TEXT,
    Graph,
    Node,
    empty,
    empty_text,
    ksampler,
    node,
)

DRAWN = node("VAEDecode", samples=ksampler(IMAGE[0], APPLE, empty(4)), vae=IMAGE[1])
WRITTEN = ksampler(TEXT[0], ROCKET, empty_text(4))
READ = node(
    "VD_TextDecode",
    text_vae=TEXT[1],
    samples=WRITTEN,
    seed=1,
    temperature=0.5,
    top_k=0,
    top_p=1.0,
    remove_duplicates=True,
)
TOWERS = {"clip": CLIP, "clip_vision": CLIP_VISION}
PLAIN = node("PreviewImage", images=DRAWN)


def best_pictures(text: str, best: int) -> Node:
    """Outputs IMAGE, report, scores."""
    return node("VD_RankImages", **TOWERS, image=DRAWN, text=text, best=best)


def best_texts(texts, best: int = 0) -> Node:
    """Outputs text, texts, report, scores."""
    return node("VD_RankTexts", **TOWERS, image=PICTURE, texts=texts, best=best)


GRAPHS: dict[str, Graph] = {
    "best-of-four": Graph(
        "Rank Pictures by CLIP (VD), best 2 of 4",
        node("PreviewImage", images=best_pictures("red apple, 3d style", 2)),
        differs=PLAIN,
    ),
    "scores-of-pictures": Graph(
        "Its report", node("PreviewAny", source=best_pictures("red apple, 3d style", 0)[1])
    ),
    "ranked-captions": Graph(
        "Rank Texts by CLIP (VD), captions", node("PreviewAny", source=best_texts(READ)[0])
    ),
    "labels": Graph(
        "Rank Texts by CLIP (VD), labels",
        node("PreviewAny", source=best_texts("strawberry, 3d style\nbanana, 3d style", 1)[2]),
    ),
}
