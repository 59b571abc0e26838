"""What guidance options and negatives do to the embedded model's pictures, through the nodes. -rP shows the
figures."""

import pytest
import torch
from rounding import assert_rounded

from vd_core.embedded import FOLDER
from vd_core.training.dataset import CaptionedPictures

NAMES = ("red apple", "rocket", "banana", "owl")
NEUTRAL = {"start": 0.0, "end": 1.0, "rescale": 0.0, "threshold": "none"}


@pytest.fixture(scope="module")
def embedded(nodes):
    model, vae = nodes["VD_LoadImageModel"]()
    return {
        "model": model,
        "vae": vae,
        "clip": nodes["VD_LoadClip"]()[0],
        "vision": nodes["VD_LoadClipVision"]()[0],
    }


@pytest.fixture(scope="module")
def known(embedded):
    """{(name, style): (picture [1, 64, 64, 3], latent [16, 8, 8])} of a few names."""
    data = CaptionedPictures.load(FOLDER)
    keys = [(data.names[name], data.styles[style]) for name, style in zip(data.name, data.style, strict=True)]
    pictures = {
        key: image.movedim(0, -1)[None]
        for key, image in zip(keys, data.pixels, strict=True)
        if key[0] in NAMES
    }
    with torch.inference_mode():
        latents = embedded["vae"].encode(torch.cat(list(pictures.values())))
    return {key: (pictures[key], latent) for key, latent in zip(pictures, latents, strict=True)}


def written(nodes, embedded, text, negative=""):
    return nodes["VD_TextContext"](clip=embedded["clip"], text=text, negative_text=negative)


def seen(nodes, embedded, picture, **choices):
    return nodes["VD_ImageContext"](clip_vision=embedded["vision"], image=picture, **choices)


def drawn(nodes, embedded, positive, negative, cfg=2.0, model=None):
    """Two latents."""
    latent = {"samples": torch.zeros(2, 16, 8, 8)}
    inputs = {
        "model": model or embedded["model"],
        "positive": positive,
        "negative": negative,
        "latent_image": latent,
    }
    return nodes["VD_Sampler"](**inputs, seed=1, steps=12, cfg=cfg, sampler="dpmpp_2m")[0]["samples"]


def distance(samples, latent):
    """Return the mean distance of latents to one latent."""
    return (samples - latent).flatten(1).norm(dim=1).mean().item()


def test_thresholds_and_intervals_tame_a_high_cfg(nodes, embedded, known):
    names = NAMES[:2]
    settings = {
        "cfg 2": (2.0, NEUTRAL),
        "cfg 12": (12.0, NEUTRAL),
        "dynamic": (12.0, NEUTRAL | {"threshold": "dynamic"}),
        "static": (12.0, NEUTRAL | {"threshold": "static"}),
        "rescale": (12.0, NEUTRAL | {"rescale": 0.7}),
        "interval": (12.0, NEUTRAL | {"start": 0.2, "end": 0.8}),
        "defaults": (12.0, {}),
    }
    saturated, off = {}, {}
    for label, (cfg, options) in settings.items():
        (model,) = nodes["VD_Guidance"](model=embedded["model"], **options)
        samples = {
            name: drawn(nodes, embedded, *written(nodes, embedded, f"{name}, 3d style"), cfg, model)
            for name in names
        }
        with torch.inference_mode():
            pixels = torch.cat([embedded["vae"].decode(latents) for latents in samples.values()])
        saturated[label] = ((pixels <= 0) | (pixels >= 1)).float().mean().item()
        off[label] = sum(distance(latents, known[name, "3d"][1]) for name, latents in samples.items()) / len(
            names
        )
        print(
            f"{label}: {saturated[label]:.2f} of the values black or white, {off[label]:.1f} off the true "
            "latent"
        )
    assert off["cfg 12"] > 2 * off["cfg 2"]
    assert max(off[label] for label in ("dynamic", "static", "rescale", "interval")) < 0.95 * off["cfg 12"]
    assert off["defaults"] < 0.65 * off["cfg 12"] and saturated["defaults"] < 0.5 * saturated["cfg 12"]


def test_a_negative_text_drives_its_style_out(nodes, embedded, known):
    """`NAME, 3d style` with the negative "3d style" moves from the 3d picture of the name to its flat one."""
    for name in NAMES:
        position = {}  # 0: the 3d picture, 1: the flat one
        for negative in ("", "3d style"):
            samples = drawn(nodes, embedded, *written(nodes, embedded, f"{name}, 3d style", negative))
            solid, flat = (distance(samples, known[name, style][1]) for style in ("3d", "flat"))
            position[negative] = solid / (solid + flat)
        print(f"{name}: from {position['']:.2f} to {position['3d style']:.2f}")
        assert position[""] < 0.45 and position["3d style"] > position[""] + 0.005


def test_a_negative_picture_drives_the_result_away_from_it(nodes, embedded, known):
    (own, _), (other, latent) = known["red apple", "flat"], known["banana", "flat"]
    positive, zeros = seen(nodes, embedded, own)
    plain = drawn(nodes, embedded, positive, zeros)
    away = drawn(nodes, embedded, positive, seen(nodes, embedded, other)[0])
    print(
        f"distance to the banana: {distance(plain, latent):.1f} without it, {distance(away, latent):.1f} "
        "with it as negative"
    )
    assert distance(away, latent) > 1.1 * distance(plain, latent)


def test_the_positive_as_negative_is_no_guidance(nodes, embedded, known):
    positive, zeros = seen(nodes, embedded, known["rocket", "flat"][0])
    once, guided = (
        drawn(nodes, embedded, positive, zeros, 1.0),
        drawn(nodes, embedded, positive, positive, 7.5),
    )
    assert_rounded(guided, once, 1e-4)


def test_what_the_unconditional_choices_hold(nodes, embedded, known):
    picture = known["owl", "noto"][0]
    negatives = {
        choice: seen(nodes, embedded, picture, unconditional=choice)[1][0][0]
        for choice in ("zeros", "black", "grey")
    }
    assert not negatives["zeros"].any()
    for choice, level in (("black", 0.0), ("grey", 0.5)):
        assert torch.equal(negatives[choice], seen(nodes, embedded, torch.full_like(picture, level))[0][0][0])
        again = seen(nodes, embedded, picture, unconditional=choice, focus=0.2, weight=0.5)[1][0][0]
        assert torch.equal(negatives[choice], again)
    assert not torch.allclose(negatives["black"], negatives["grey"], atol=0.1)
