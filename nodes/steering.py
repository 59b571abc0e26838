"""Nodes that steer what a MODEL makes by measures of the picture that each step predicts."""

from __future__ import annotations

from torch import Tensor

from ..vd_core.energies import color_distance, embedding_distance, latent_distance
from ..vd_core.sampling.energy import Energy
from .choices import CLIP_VISION, choice, long_text, share, socket
from .host import host
from .images import to_masks, to_rgb

CATEGORY = "VersatileDiffusion/steering"
GRADIENTS = ("fast", "exact")
ALIASES = ["energy guidance", "classifier guidance", "universal guidance", "dps"]
MODEL = socket("MODEL", "image_model, or a model of Stable Diffusion 1 or 2; several steering nodes add up.")
VAE = socket("VAE", "The one that decodes what the model makes.")
OUTPUT_TOOLTIPS = ("For any sampler: it now steers its samples.",)


def strength(default: float, what: str) -> tuple:
    """Describe the input for a strength."""
    return share(default, f"{what} 0 changes nothing.")


STEERING = {
    "start": share(0.0, "When it begins: 0 is the noise, 1 the picture."),
    "end": share(1.0, "When it ends."),
    "gradient": choice(
        GRADIENTS,
        GRADIENTS[0],
        "fast: around the model; exact: through it, as in the papers, slower and with more memory, for "
        "nearly the same result.",
    ),
}


def add_energy(
    model, parts: list, measure, strength: float, start: float, end: float, gradient: str
) -> tuple:
    """Return the MODEL with one more energy, measure(latents [B, C, h, w]) -> [B]. parts: the models that it
    uses."""
    energy = Energy(lambda latents, alpha: measure(latents), strength, start, end, exact=gradient == "exact")
    return (host.steer(model, energy, parts),)


class VD_SteerByClip:
    """Samples towards a text or a picture, as CLIP sees them."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Steers samples towards a text, or towards what a picture shows, as CLIP sees the picture that each "
        "step predicts. Contexts say what the model should draw; this says what should be seen in it."
    )
    SEARCH_ALIASES = ["clip guidance", "clip guided diffusion", *ALIASES]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "vae": VAE,
                "clip_vision": CLIP_VISION,
                "text": long_text("What should be seen. Needs clip."),
                "strength": strength(0.05, "How far each step goes towards a perfect match."),
                **STEERING,
            },
            "optional": {
                "clip": socket(
                    "CLIP",
                    "From Load Versatile Diffusion or Load CLIP (VD), of the same model as clip_vision; "
                    "reads text.",
                ),
                "image": socket(
                    "IMAGE",
                    "Instead of clip and text: what it shows should be seen. One, or one for each sample.",
                ),
            },
        }

    def execute(self, model, vae, clip_vision, text, strength, start, end, gradient, clip=None, image=None):
        wanted = embed_wanted(clip_vision, text, clip, image)

        def measure(latents: Tensor) -> Tensor:
            return embedding_distance(host.embed_image(clip_vision, host.decode(vae, latents)), wanted)

        return add_energy(model, [vae, clip_vision], measure, strength, start, end, gradient)


def embed_wanted(clip_vision, text: str, clip, image: Tensor | None) -> Tensor:
    """Embed the wanted text or pictures globally, [1 or B, d]. Raises ValueError unless it is clear which."""
    if (clip is None) == (image is None):
        raise ValueError(
            "Connect clip and write a text, or connect image: one node steers to one of the two."
        )
    return (
        host.embed_text(clip, [text])
        if image is None
        else host.encode_image(clip_vision, to_rgb(image), None)[:, 0]
    )


class VD_SteerByColor:
    """Samples towards the colours of a picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Steers samples towards the palette of a picture, wherever its colours lie. Match Colours (VD) "
        "repaints what is done; this lets the model draw something that has these colours."
    )
    SEARCH_ALIASES = ["color guidance", "colour", "palette", *ALIASES]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "vae": VAE,
                "image": socket(
                    "IMAGE", "Where the colours come from, in any size. One, or one for each sample."
                ),
                "strength": strength(0.2, "How far each step goes towards these colours."),
                **STEERING,
            }
        }

    def execute(self, model, vae, image, strength, start, end, gradient):
        palette = to_rgb(image)
        return add_energy(
            model,
            [vae],
            lambda z: color_distance(host.decode(vae, z), palette),
            strength,
            start,
            end,
            gradient,
        )


class VD_SteerToPicture:
    """Samples towards a picture, or a part of it."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Steers samples towards a picture where a mask is painted. Softer than inpainting, which keeps it "
        "exactly: the model may change it, so that it fits the rest."
    )
    SEARCH_ALIASES = ["mask guidance", "soft inpaint", "composition", *ALIASES]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "vae": VAE,
                "image": socket("IMAGE", "The picture, in the size of the samples. One, or one for each."),
                "strength": strength(0.2, "How far each step goes towards the picture."),
                **STEERING,
            },
            "optional": {
                "mask": socket(
                    "MASK", "Where (white) samples are to be like the picture; without it everywhere."
                )
            },
        }

    def execute(self, model, vae, image, strength, start, end, gradient, mask=None):
        wanted, painted = vae.encode(to_rgb(image).movedim(1, -1)), None if mask is None else to_masks(mask)
        return add_energy(
            model,
            [],
            lambda latents: latent_distance(latents, wanted, painted),
            strength,
            start,
            end,
            gradient,
        )
