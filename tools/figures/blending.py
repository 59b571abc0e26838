"""How blends and turns by texts follow their ratios on the embedded model, as figures: python -m
tools.figures.blending"""

import torch

from vd_core.checkpoints.load import load
from vd_core.context import blend
from vd_core.embedded import FOLDER, MODEL
from vd_core.interpolation import text_diff
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import draw

RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure_strengths(count: int) -> dict[str, float]:
    """Measure pictures blended with the captions of others, on the embedded model: how the samples lie
    between the two, for `count` pairs.

    The similarity to the text's picture is d_image / (d_image + d_text), with d the distances of the sample's
    latent to the two.
    """
    model, data = load(MODEL), CaptionedPictures.load(FOLDER)
    own = data.train[torch.linspace(0, len(data.train) - 1, count).long()]
    other = own.roll(count // 2)
    latents, targets = (model.image_vae.encode(data.pixels[rows]) for rows in (own, other))
    image, text = model.encode_image(data.pixels[own]), model.encode_text([data.captions[i] for i in other])
    drawn = [draw(model, blend([image], [text], ratio), latents) for ratio in RATIOS]
    distances = [[(sample - end).flatten(1).norm(dim=1) for end in (latents, targets)] for sample in drawn]
    similarity = torch.stack([to_image / (to_image + to_text) for to_image, to_text in distances], dim=1)
    ranks = similarity.argsort(dim=1).argsort(dim=1).float()
    correlation = torch.stack(
        [torch.corrcoef(torch.stack([row, torch.arange(len(RATIOS)).float()]))[0, 1] for row in ranks]
    )
    alone = [draw(model, [context], latents) for context in (image, text)]
    return {
        "pairs": count,
        "ratio 0 is the picture alone": torch.equal(drawn[0], alone[0]),
        "ratio 1 is the text alone": torch.equal(drawn[-1], alone[1]),
        "similarity to the text's picture": [round(float(x), 3) for x in similarity.mean(dim=0)],
        "mean rank correlation with the ratio": round(float(correlation.mean()), 3),
        "share of pairs with rank correlation 0.9 or more": round(
            float((correlation >= 0.89).float().mean()), 3
        ),
    }


def measure_turns(count: int, thetas: tuple[float, ...] = (0.0, 0.5)) -> dict[str, float]:
    """Turn pictures from "NAME, 3d style" to "NAME, flat style" on the embedded model, `count` of them.

    Per theta: the similarity to the flat picture of the same thing as in `measure_strengths`, and how often
    that one is nearer than the picture itself.
    """
    model, data = load(MODEL), CaptionedPictures.load(FOLDER)
    trained = set(data.train.tolist())
    rows = {caption: i for i, caption in enumerate(data.captions) if i in trained}
    names = [name for name in data.names if {f"{name}, 3d style", f"{name}, flat style"} <= rows.keys()]
    names = [names[i] for i in torch.linspace(0, len(names) - 1, count).long()]
    own, new = (torch.tensor([rows[f"{name}, {style} style"] for name in names]) for style in ("3d", "flat"))
    latents, targets = (model.image_vae.encode(data.pixels[end]) for end in (own, new))
    with torch.inference_mode():
        context = model.encode_image(data.pixels[own])
        before, after = (
            model.clip.embed_text([f"{name}, {style} style" for name in names]) for style in ("3d", "flat")
        )
    found: dict[str, float] = {"pictures": count}
    for theta in thetas:
        sample = draw(model, [text_diff(context, before, after, theta)], latents)
        to_own, to_new = ((sample - end).flatten(1).norm(dim=1) for end in (latents, targets))
        found[f"theta {theta}: similarity to the flat picture"] = round(
            float((to_own / (to_own + to_new)).mean()), 3
        )
        found[f"theta {theta}: the flat picture is nearer"] = round(
            float((to_new < to_own).float().mean()), 3
        )
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, value in (measure_strengths(40) | measure_turns(40, (0.0, 0.3, 0.5))).items():
        print(f"{name}: {value}")
