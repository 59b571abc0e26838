"""Measures a small model on the pictures it was trained on and, apart from them, on the held-out (name,
style) pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..context import Context, blend
from ..flows import VersatileDiffusion
from ..ranking import similarity
from ..sampling.noise import sample_noise
from ..sampling.options import Sampling
from .clip import measure_retrieval
from .dataset import CaptionedPictures
from .image_vae import measure_psnr
from .judge import Judge, spoil

SAMPLING = Sampling("dpmpp_2m", steps=20, cfg=2.0)
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
FOCUSES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)

Progress = Callable[[str], None]


def evaluate(
    model: VersatileDiffusion,
    data: CaptionedPictures,
    judge: Judge | None = None,
    count: int = 100,
    progress: Progress = lambda text: None,
) -> dict:
    """Return the figures of the model card, for up to `count` trained pairs and all held-out ones, apart.

    Shares are 0..1, PSNR is in dB. "nearest" ranks the latents of all N pictures by their distance to the
    sampled one: top-1 and top-5 are the shares of samples whose own picture is the nearest or among the five
    nearest (chance 1/N and 5/N). With a judge, "judged" holds its scores, see `judge_pictures` and
    `measure_focus_path`.
    """
    latents = torch.cat([model.image_vae.encode(chunk) for chunk in data.pixels.split(64)])
    evenly = torch.linspace(0, len(data.train) - 1, min(count, len(data.train))).long()
    figures: dict = {
        "pictures": len(data.images),
        "sampler": f"{SAMPLING.sampler}, {SAMPLING.steps} steps, cfg {SAMPLING.cfg}",
    }
    if judge is not None:
        figures["judged"], figures["focus"] = judge_real(judge, model, data), {}
    for part, indices in (("trained", data.train[evenly]), ("held out", data.held_out)):
        progress(part)
        captions = [data.captions[i] for i in indices]
        text, image = model.encode_text(captions), model.encode_image(data.pixels[indices])
        seen = model.encode_image(data.pixels[indices], null="black")  # the official choice for text output
        said = read(model, write(model, [seen], len(indices)))
        drawn, varied = draw(model, [text], latents[indices]), draw(model, [image], latents[indices])
        figures[part] = {
            "pairs": len(indices),
            "autoencoder PSNR": round(float(measure_psnr(model.image_vae, data.pixels[indices]).mean()), 2),
            "text autoencoder exact": compute_share(
                a == b for a, b in zip(read(model, model.text_vae.encode(captions)), captions, strict=True)
            ),
            "clip finds": measure_retrieval(model.clip, data, indices),
            "text to image": measure_nearest(drawn, latents, indices),
            "image variation": measure_nearest(varied, latents, indices),
            "image to text": measure_agreement(said, captions),
            "captions in doubt": measure_doubt(model, seen, said, captions),
            "text variation": measure_agreement(read(model, write(model, [text], len(indices))), captions),
        }
        if judge is not None:
            for flow, samples in (("text to image", drawn), ("image variation", varied)):
                figures["judged"][f"{flow}, {part}"] = judge_pictures(
                    judge, see(model, samples), data, indices
                )
            progress(f"{part}, focus")
            figures["focus"][part] = measure_focus_path(judge, model, data, varied, indices)
    progress("blend")
    figures["blend"] = measure_blend_path(model, data, latents, data.train[evenly][: count // 2])
    return figures


def compute_share(truths: Iterable) -> float:
    """Return the share of true values, NaN of none."""
    truths = [bool(truth) for truth in truths]
    return round(sum(truths) / len(truths), 3) if truths else float("nan")


def draw(model: VersatileDiffusion, contexts: list[Context], like: Tensor) -> Tensor:
    """Draw one image latent per row of the contexts."""
    rows = [take_rows(contexts, chunk) for chunk in torch.arange(len(like)).split(64)]
    return torch.cat(
        [
            model.sample("image", row, like[:size], sample_noise(seed), SAMPLING)
            for seed, (row, size) in enumerate((row, len(row[0].tokens)) for row in rows)
        ]
    )


def take_rows(contexts: list[Context], rows: Tensor) -> list[Context]:
    """Take some rows of batched contexts."""
    return [Context(c.kind, c.tokens[rows], c.null, c.weight) for c in contexts]


def write(model: VersatileDiffusion, contexts: list[Context], count: int) -> Tensor:
    """Draw one text latent per row of the contexts."""
    like = torch.zeros(count, model.config.diffuser.data["text"].channels)
    return model.sample("text", contexts, like, sample_noise(0), SAMPLING)


def read(model: VersatileDiffusion, latents: Tensor) -> list[str]:
    """Return the likeliest sentence of each text latent."""
    return model.text_vae.decode(latents, [torch.Generator() for _ in latents], temperature=0)


def see(model: VersatileDiffusion, latents: Tensor) -> Tensor:
    """Return the pictures of image latents."""
    return torch.cat([model.image_vae.decode(chunk) for chunk in latents.split(64)])


def judge_pictures(judge: Judge, images: Tensor, data: CaptionedPictures, own: Tensor) -> dict[str, float]:
    """Score pictures of the pairs `own` by the judge's top-1: right names, styles, both at once, and right
    names per style."""
    name, style = judge.read(images)
    names, styles = name == data.name[own], style == data.style[own]
    each = {word: compute_share(names[data.style[own] == number]) for number, word in enumerate(data.styles)}
    return {
        "name": compute_share(names),
        "style": compute_share(styles),
        "both": compute_share(names & styles),
    } | each


def judge_real(
    judge: Judge, model: VersatileDiffusion, data: CaptionedPictures
) -> dict[str, dict[str, float]]:
    """Compute what the scores are compared with: chance, and the judge on real, on spoiled and on autoencoded
    pictures.

    It was trained on these very pictures, spoiled in other ways: its scores on them say how far a perfect
    model could come, no more.
    """
    every = torch.arange(len(data.images))
    spoiled = spoil(data.pixels, torch.Generator().manual_seed(-1))
    names, styles = 1 / len(data.names), 1 / len(data.styles)
    return {
        "chance": {"name": names, "style": styles, "both": names * styles}
        | dict.fromkeys(data.styles, names),
        "real pictures": judge_pictures(judge, data.pixels, data, every),
        "real pictures, spoiled": judge_pictures(judge, spoiled, data, every),
        "real pictures, autoencoded": judge_pictures(
            judge,
            see(model, torch.cat([model.image_vae.encode(c) for c in data.pixels.split(64)])),
            data,
            every,
        ),
    }


def measure_focus_path(
    judge: Judge, model: VersatileDiffusion, data: CaptionedPictures, varied: Tensor, indices: Tensor
) -> dict[str, dict[str, float]]:
    """Measure how much image variations keep of the name and of the style, per focus: 0 semantics, 1 style;
    `varied` are the latents at 0.5."""
    path = {}
    for level in FOCUSES:
        context = model.encode_image(data.pixels[indices], focus=level)
        samples = varied if level == 0.5 else draw(model, [context], varied)
        scores = judge_pictures(judge, see(model, samples), data, indices)
        path[f"focus {level}"] = {key: scores[key] for key in ("name", "style")}
    return path


def measure_nearest(samples: Tensor, latents: Tensor, own: Tensor) -> dict[str, float]:
    """Measure how often a sample's own picture is the nearest of all, or among the five nearest."""
    distances = torch.cdist(samples.flatten(1), latents.flatten(1))
    ranks = (distances < distances[torch.arange(len(own)), own][:, None]).sum(dim=1)
    return {"top-1": compute_share(ranks == 0), "top-5": compute_share(ranks < 5)}


def measure_agreement(sentences: list[str], captions: list[str]) -> dict[str, float]:
    """Measure how often a sentence is the caption, names the right thing, names the right style."""
    parts = [[text.partition(",") for text in pair] for pair in zip(sentences, captions, strict=True)]
    return {
        "exact": compute_share(a == b for a, b in zip(sentences, captions, strict=True)),
        "name": compute_share(a[0] == b[0] for a, b in parts),
        "style": compute_share(a[2] == b[2] for a, b in parts),
    }


def measure_doubt(
    model: VersatileDiffusion, seen: Context, sentences: list[str], captions: list[str]
) -> dict[str, float]:
    """How often sentences about pictures that name the right thing, and those that do not, are in doubt (see
    `ClipConfig`)."""
    doubt, right = find_doubt(model, seen, sentences), compare_names(sentences, captions)
    return {"right": compute_share(doubt[right]), "wrong": compute_share(doubt[~right])}


def find_doubt(model: VersatileDiffusion, seen: Context, sentences: list[str]) -> Tensor:
    """Tell which sentences about pictures are in doubt, bool [N] (see `ClipConfig`)."""
    cosine = similarity(seen.tokens[:, 0], model.clip.embed_text(sentences)).diagonal()
    return cosine < model.config.clip.doubt_below


def compare_names(sentences: Iterable[str], captions: Iterable[str]) -> Tensor:
    """Tell which sentences name the thing of their captions, bool [N]; styles stand behind the comma."""
    pairs = zip(sentences, captions, strict=True)
    return torch.tensor([a.partition(",")[0] == b.partition(",")[0] for a, b in pairs])


def measure_blend_path(
    model: VersatileDiffusion, data: CaptionedPictures, latents: Tensor, images: Tensor
) -> dict[str, float]:
    """Measure where samples lie between an image's latent (0) and that of a text's picture (1), per share of
    the text.

    The position is d_image / (d_image + d_text) with d the distances of the sample to the two; each image
    meets the caption of another one. "rank correlation" is that of share and position, the mean over the
    images: 1 when more text always takes the sample nearer to it.
    """
    texts = images.roll(len(images) // 2)
    image = model.encode_image(data.pixels[images])
    text = model.encode_text([data.captions[i] for i in texts])
    found = []
    for ratio in RATIOS:
        samples = draw(model, blend([image], [text], ratio), latents[images])
        to_image, to_text = ((samples - latents[own]).flatten(1).norm(dim=1) for own in (images, texts))
        found.append(to_image / (to_image + to_text))
    positions = torch.stack(found)
    path = {
        f"text {ratio}": round(float(position.mean()), 3)
        for ratio, position in zip(RATIOS, positions, strict=True)
    }
    return path | {"rank correlation": round(float(correlate_ranks(positions).mean()), 3)}


def correlate_ranks(values: Tensor) -> Tensor:
    """Compute Spearman's correlation of the order 0..n-1 with each column of values [n, N], without ties: [N]
    in -1..1."""
    ranks = values.argsort(dim=0).argsort(dim=0).float()
    order = torch.arange(len(values), dtype=torch.float32)[:, None]
    return 1 - 6 * (ranks - order).square().sum(dim=0) / (len(values) * (len(values) ** 2 - 1))


def write_table(figures: dict) -> str:
    """Return the figures as text: one line per figure, trained and held out side by side."""
    rows = [
        f"{figures['pictures']} pictures; {figures['sampler']}",
        f"{'':34}{'trained':>10}{'held out':>10}",
    ]
    flat = {part: flatten(figures[part]) for part in ("trained", "held out")}
    rows += [f"{name:34}{value:>10}{flat['held out'][name]:>10}" for name, value in flat["trained"].items()]
    if "judged" in figures:
        columns = next(iter(figures["judged"].values()))
        rows += [
            "",
            "judge, top-1; the last columns are right names per style",
            f"{'':34}" + "".join(f"{column:>8}" for column in columns),
        ]
        rows += [
            f"{name:34}" + "".join(f"{value:8.3f}" for value in scores.values())
            for name, scores in figures["judged"].items()
        ]
        rows += ["", f"{'image variation keeps':34}{'trained name, style':>24}{'held out name, style':>24}"]
        rows += [
            f"{level:34}"
            + "".join(
                f"{figures['focus'][part][level]['name']:16.3f}{figures['focus'][part][level]['style']:8.3f}"
                for part in flat
            )
            for level in figures["focus"]["trained"]
        ]
        rows.append("")
    rows.append(
        "blend, 0 = the image, 1 = the text's picture: "
        + ", ".join(f"{k}: {v}" for k, v in figures["blend"].items())
    )
    return "\n".join(rows)


def flatten(figures: dict, prefix: str = "") -> dict[str, float]:
    """Flatten nested figures, joining their names."""
    flat: dict[str, float] = {}
    for name, value in figures.items():
        flat |= flatten(value, f"{prefix}{name} ") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
