"""The node that ties samples to a source."""

from ..vd_core.sampling.low_pass import LowPassGuidance
from .choices import share, socket, whole
from .host import host
from .latents import read_samples


class VD_LowPassTie:
    """Samples that keep the large shapes of a latent."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Ties what any sampler makes to the large shapes and colours of a picture (ILVR): blocks of cells "
        "keep their mean, and only what is finer is drawn. For a second pass in a larger size that must not "
        "change the picture."
    )
    SEARCH_ALIASES = ["ilvr", "hires fix", "low pass", "super resolution", "upscale", "keep composition"]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model, tied; for any sampler.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "Of pictures; in ComfyUI of any other kind too."),
                "latent_image": socket(
                    "LATENT", "What to keep the large shapes of; as large as what will be sampled."
                ),
                "factor": whole(
                    2, 1, 64, "Blocks of factor x factor cells, of 8 pixels each, keep their mean."
                ),
                "strength": share(1.0, "How firmly they keep it: 0 not at all, 1 exactly."),
                "end": share(1.0, "When it stops acting: 0 is the first step, from noise, 1 the last one."),
            }
        }

    def execute(self, model, latent_image, factor, strength, end):
        return (
            host.guide_low_pass(model, LowPassGuidance(read_samples(latent_image), factor, strength, end)),
        )
