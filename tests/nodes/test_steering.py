"""The steering nodes in the host without ComfyUI: what they leave alone, what they refuse, and what they do
to the embedded model."""

from __future__ import annotations

import pytest
import torch

from vd_core.checkpoints.load import load
from vd_core.embedded import FOLDER, MODEL
from vd_core.energies import color_distance, embedding_distance, latent_distance
from vd_core.training.dataset import CaptionedPictures

PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
LEFT = torch.zeros(1, 64, 64)
LEFT[..., :32] = 1


@pytest.fixture
def draw(nodes, loaded):
    """Latents of the tiny model under "red apple"."""
    positive, negative = nodes["VD_TextContext"](clip=loaded["clip"], text="red apple")

    def call(model=loaded["image_model"], size=8):
        inputs = {
            "latent_image": {"samples": torch.zeros(2, 4, size, size)},
            "steps": 2,
            "cfg": 2.0,
            "sampler": "dpmpp_2m",
        }
        return nodes["VD_Sampler"](model=model, positive=positive, negative=negative, **inputs)[0]["samples"]

    return call


@pytest.fixture
def steer(nodes, loaded):
    """Return a MODEL after one steering node, by its name without prefix."""

    def call(node, model=loaded["image_model"], **inputs):
        given = {"VD_SteerByClip": ("clip_vision", "clip"), "VD_SteerByColor": (), "VD_SteerToPicture": ()}[
            node
        ]
        inputs = {"vae": loaded["vae"], **{name: loaded[name] for name in given}, **inputs}
        return nodes[node](
            model=model, **{name: value for name, value in inputs.items() if value is not None}
        )[0]

    return call


INPUTS = {
    "VD_SteerByClip": {"text": "red apple"},
    "VD_SteerByColor": {"image": PICTURE},
    "VD_SteerToPicture": {"image": PICTURE},
}


@pytest.mark.parametrize("node", INPUTS)
def test_neutral_settings_change_nothing(draw, steer, node):
    plain = draw()
    assert torch.equal(draw(steer(node, strength=0.0, **INPUTS[node])), plain)
    assert torch.equal(draw(steer(node, start=0.5, end=0.5, **INPUTS[node])), plain)
    assert not torch.allclose(draw(steer(node, strength=0.5, **INPUTS[node])), plain, atol=1e-3)


def test_nodes_add_up_and_leave_the_model_before_them_alone(draw, steer, loaded):
    once = steer("VD_SteerByColor", image=PICTURE)
    twice = steer("VD_SteerToPicture", once, image=PICTURE)
    assert [len(model.energies) for model in (loaded["image_model"], once, twice)] == [0, 1, 2]
    assert not torch.equal(draw(once), draw(twice)) and twice.layers is loaded["image_model"].layers


def test_what_does_not_fit_is_refused_with_a_sentence(draw, steer, loaded):
    with pytest.raises(ValueError, match="pictures only: connect image_model"):
        steer("VD_SteerByColor", loaded["text_model"], image=PICTURE)
    for inputs in ({"clip": None}, {"image": PICTURE}):
        with pytest.raises(ValueError, match="Connect clip and write a text, or connect image"):
            steer("VD_SteerByClip", **inputs)
    with pytest.raises(ValueError, match="in the size of the samples"):
        draw(steer("VD_SteerToPicture", image=PICTURE), size=6)
    with pytest.raises(ValueError, match="The mask is empty"):
        draw(steer("VD_SteerToPicture", image=PICTURE, mask=torch.zeros(1, 64, 64)))


# The embedded model

STRENGTHS = (0.0, 0.05, 0.1, 0.2)
CAPTIONS = ("red apple, 3d style", "banana, flat style", "rocket, noto style")
OTHER = "owl, blob style"


@pytest.fixture(scope="module")
def trained():
    return load(MODEL)


@pytest.fixture(scope="module")
def other():
    """Return the picture that samples are steered to, [1, 3, 64, 64]."""
    data = CaptionedPictures.load(FOLDER)
    return data.pixels[data.captions.index(OTHER)][None]


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["exact", "fast"])
@pytest.mark.parametrize("node", INPUTS)
def test_distances_of_the_embedded_model_fall_with_the_strength(nodes, trained, other, node, gradient):
    """pytest tests/nodes/test_steering.py -k embedded -rP prints the distances."""
    models = {"image_model": "VD_LoadImageModel", "clip": "VD_LoadClip", "clip_vision": "VD_LoadClipVision"}
    parts = {name: nodes[loader](model="embedded") for name, loader in models.items()}
    (model, vae), clip, clip_vision = parts["image_model"], parts["clip"][0], parts["clip_vision"][0]
    contexts = [nodes["VD_TextContext"](clip=clip, text=caption) for caption in CAPTIONS]
    positive, negative = (
        [[torch.cat([c[side][0][0] for c in contexts]), contexts[0][side][0][1]]] for side in (0, 1)
    )
    image = other.movedim(1, -1)
    inputs = {
        "VD_SteerByClip": {"clip_vision": clip_vision, "clip": clip, "text": OTHER},
        "VD_SteerByColor": {"image": image},
        "VD_SteerToPicture": {"image": image, "mask": LEFT},
    }[node]

    @torch.no_grad()
    def distance(latents):
        pictures = trained.image_vae.decode(latents)
        return {
            "VD_SteerByClip": lambda: embedding_distance(
                trained.clip.embed_image(pictures), trained.clip.embed_text([OTHER])
            ),
            "VD_SteerByColor": lambda: color_distance(pictures, other),
            "VD_SteerToPicture": lambda: latent_distance(
                latents, trained.image_vae.encode(other), LEFT[:, None]
            ),
        }[node]()

    distances = []
    for strength in STRENGTHS:
        steered = nodes[node](model=model, vae=vae, strength=strength, gradient=gradient, **inputs)[0]
        latent = {"samples": torch.zeros(3, 16, 8, 8)}
        sampled = {"latent_image": latent, "seed": 1, "steps": 8, "cfg": 2.0, "sampler": "dpmpp_2m"}
        distances.append(
            distance(
                nodes["VD_Sampler"](model=steered, positive=positive, negative=negative, **sampled)[0][
                    "samples"
                ]
            )
        )
    print(
        node, gradient, dict(zip(STRENGTHS, [round(float(row.mean()), 4) for row in distances], strict=True))
    )
    table = torch.stack(distances)
    assert (table.mean(dim=1).diff() < 0).all()
    assert (table[-1] < 0.8 * table[0]).all()  # and for each picture
