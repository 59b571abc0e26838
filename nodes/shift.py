"""The node for pictures of another size than the model was trained on."""

from .choices import multiplier, socket, whole
from .host import host


class VD_ResolutionShift:
    """More noise for larger pictures."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Moves the steps of any sampler to more noise for pictures larger than the model was trained on, in "
        "which the same noise hides less: the shifted and interpolated schedules of simple diffusion. At the "
        "trained size nothing changes."
    )
    SEARCH_ALIASES = [
        "simple diffusion",
        "snr shift",
        "schedule shift",
        "high resolution",
        "modelsampling",
        "logsnr",
    ]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model with shifted noise, for any sampler.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "image_model."),
                "latent_image": socket("LATENT", "The latent that will be sampled; its size counts."),
                "noisy": multiplier("How much of the shift at the noisy end: 0 none, 1 all."),
                "clean": multiplier(
                    "How much of it at the clean end; 0 leaves the last steps to fine detail."
                ),
                "trained_side": whole(
                    0, 0, 4096, "Side of the trained latents, 1/8 of the pictures'; 0: the model's."
                ),
            }
        }

    def execute(self, model, latent_image, noisy, clean, trained_side):
        return (host.shift_resolution(model, latent_image, trained_side, noisy, clean),)
