"""How a MODEL is guided."""

from ..vd_core.sampling.corrections import THRESHOLDS, GuidanceOptions
from .choices import choice, number, share, socket
from .host import host


class VD_Guidance:
    """When guidance acts, and what is done against its excesses."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Lets a high cfg keep its colours: guidance acts in the middle of sampling only, which also saves "
        "time, and what it predicts is rescaled or thresholded. For any model and any sampler."
    )
    SEARCH_ALIASES = [
        "dynamic thresholding",
        "rescale cfg",
        "guidance interval",
        "limited interval",
        "saturation",
        "imagen",
    ]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The same model with these options, for any sampler.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "image_model or text_model; in ComfyUI any other model too."),
                "start": number(
                    0.2,
                    0.0,
                    0.999,
                    0.001,
                    "Where guidance begins, from noise (0) to the result (1). Before it cfg is 1, which is "
                    "twice as fast.",
                ),
                "end": number(0.8, 0.001, 1.0, 0.001, "Where guidance ends. After it cfg is 1."),
                "rescale": share(
                    0.0,
                    "How far the contrast is set back to that without guidance: 0 not at all, 0.7 is usual.",
                ),
                "threshold": choice(
                    THRESHOLDS,
                    "dynamic",
                    "dynamic: no wider range of values than without guidance; static: the range of bound; "
                    "none.",
                ),
                "percentile": number(
                    0.995,
                    0.5,
                    1.0,
                    0.001,
                    "For dynamic: the share of values that makes up the range; what lies outside is cut.",
                ),
                "bound": number(4.0, 0.1, 100.0, 0.1, "For static: the largest value of a latent."),
            }
        }

    def execute(self, model, start, end, rescale, threshold, percentile, bound):
        return (
            host.with_guidance(model, GuidanceOptions(start, end, rescale, threshold, percentile, bound)),
        )
