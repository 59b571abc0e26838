"""The node that ties samples to a source."""

from ..vd_core.sampling.low_pass import LowPassGuidance
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
        share = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "Of pictures; in ComfyUI of any other kind too."}),
                "latent_image": (
                    "LATENT",
                    {"tooltip": "What to keep the large shapes of; as large as what will be sampled."},
                ),
                "factor": (
                    "INT",
                    {
                        "default": 2,
                        "min": 1,
                        "max": 64,
                        "tooltip": "Blocks of factor x factor cells, of 8 pixels each, keep their mean.",
                    },
                ),
                "strength": (
                    "FLOAT",
                    {**share, "tooltip": "How firmly they keep it: 0 not at all, 1 exactly."},
                ),
                "end": (
                    "FLOAT",
                    {
                        **share,
                        "tooltip": "When it stops acting: 0 is the first step, from noise, 1 the last one.",
                    },
                ),
            }
        }

    def execute(self, model, latent_image, factor, strength, end):
        return (
            host.guide_low_pass(model, LowPassGuidance(read_samples(latent_image), factor, strength, end)),
        )
