"""Nodes for pictures: what the official app does with them before and after the model."""

import torch

from ..vd_core.color import match_color
from ..vd_core.pictures import resize
from .choices import seed, socket, whole
from .host import host
from .images import to_masks, to_rgb
from .latents import DRAWN, make_official_noise


class VD_ColorAdjust:
    """Give pictures the colours of a reference."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Gives pictures the colours of a reference: mean and spread per channel, the official app's “Simple” "
        "adjustment."
    )
    SEARCH_ALIASES = ["color match", "color transfer", "colour adjust"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The pictures in the reference's colours.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": socket("IMAGE", "The pictures to adjust."),
                "reference": socket("IMAGE", "Where the colours come from: one picture, or one for each."),
            }
        }

    def execute(self, image, reference):
        pictures, wanted = to_rgb(image), to_rgb(reference)
        return (match_color(pictures, wanted).movedim(1, -1),)


class VD_Squeeze:
    """Bring pictures into another size and shape."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Squeezes pictures and their masks to a size without keeping the proportions, exactly as the "
        "official app does before it looks at them: nothing is cut off, so Image Context (VD) then sees the "
        "whole picture."
    )
    SEARCH_ALIASES = ["resize", "scale image", "stretch", "512x512"]
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = ("The pictures in that size.", "The masks in that size; black where none is connected.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": socket("IMAGE", "The pictures, of any size."),
                "width": whole(
                    512, 8, 8192, "512 as in the official app; 64 suits the embedded model.", step=8
                ),
                "height": whole(
                    512, 8, 8192, "512 as in the official app; 64 suits the embedded model.", step=8
                ),
            },
            "optional": {"mask": socket("MASK", "Masks of the pictures.")},
        }

    def execute(self, image, width, height, mask=None):
        pictures = resize(to_rgb(image), height, width).movedim(1, -1)
        masks = (
            torch.zeros(pictures.shape[:3])
            if mask is None
            else resize(to_masks(mask), height, width, mode="bilinear")[:, 0]
        )
        return pictures, masks


class VD_ImageEncode:
    """Encode pictures as latents, drawn from the autoencoder's posterior."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Turns pictures into image latents as the official app does before it varies them: a random draw of "
        "the autoencoder, where VAE Encode gives the mean. Multi-Flow Sampler (VD) with official noise "
        "continues after that draw."
    )
    SEARCH_ALIASES = ["vae encode", "img2img", "fidelity", "posterior sample"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("For latent_image of a sampler with image_model.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pixels": socket("IMAGE", "The pictures; their sides are multiples of 8."),
                "vae": socket("VAE", "From Load Versatile Diffusion or Load Image Model (VD)."),
                "seed": seed("That of the sampler, as in the official app."),
                "batch_size": whole(1, 1, 4096, "How many samples start from each picture."),
            }
        }

    def execute(self, pixels, vae, seed, batch_size):
        noise = make_official_noise(seed, {})
        latents = host.encode_sample(vae, to_rgb(pixels).float().movedim(1, -1), noise)
        return ({"samples": latents.repeat(batch_size, 1, 1, 1), DRAWN: noise.drawn},)
