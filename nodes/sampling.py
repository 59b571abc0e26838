"""The multi-flow sampler node."""

from ..vd_core.sampling.noise import NOISES
from ..vd_core.sampling.options import Sampling
from ..vd_core.sampling.samplers import SAMPLERS
from .choices import choice, guidance_scale, seed, share, socket, steps
from .host import host
from .latents import STEPS


class VD_Sampler:
    """Sample pictures or texts."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Makes image or text latents under any contexts, with the official DDIM sampler or a faster one."
    )
    SEARCH_ALIASES = ["ksampler", "ddim", "versatile diffusion sampler", "denoise"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("For VAE Decode or Latent to Text (VD), according to the model.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "image_model makes pictures, text_model makes texts."),
                "positive": socket("CONDITIONING", "From a context node or Blend."),
                "negative": socket("CONDITIONING", "From the same node as positive."),
                "latent_image": socket(
                    "LATENT",
                    "Sets batch size and picture size; fidelity sets how much of it is kept, a noise mask "
                    "where.",
                ),
                "seed": seed("The same seed gives the same result."),
                "steps": steps("50 for ddim; 20 are enough for dpmpp_2m and unipc."),
                "cfg": guidance_scale(
                    7.5,
                    "How strongly the contexts guide: 7.5 for the real model, 2 for the embedded one. 1 is "
                    "twice as fast.",
                ),
                "sampler": choice(
                    SAMPLERS, "ddim", "ddim is the official one; dpmpp_2m and unipc need fewer steps."
                ),
                "eta": share(0.0, "How much noise ddim adds on the way; 0 adds none."),
                "fidelity": share(0.0, "How much of latent_image is kept: 0 none, 1 all."),
                "noise": choice(
                    NOISES,
                    "per sample",
                    "per sample: the batch size changes no sample; official: the app's draws; shared: all "
                    "start alike.",
                ),
            },
            "optional": {
                "start_noise": socket(
                    "LATENT",
                    "From Invert Latent (VD): start from it, not from the seed's noise; ignores fidelity.",
                )
            },
        }

    def execute(
        self,
        model,
        positive,
        negative,
        latent_image,
        seed,
        steps,
        cfg,
        sampler,
        eta,
        fidelity,
        noise,
        start_noise=None,
    ):
        sampling = Sampling(sampler, steps, cfg, eta, fidelity=fidelity, noise=noise)
        return (host.sample(model, positive, negative, latent_image, seed, sampling, start_noise),)


class VD_Invert:
    """The noise that a picture or text comes from."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Finds the noise from which the sampler makes this very picture or text (DDIM inversion). From there "
        "eta varies the details, and other contexts change the picture but keep much of its layout."
    )
    SEARCH_ALIASES = ["ddim inversion", "unsampler", "reverse ddim", "invert noise", "bipartite latent"]
    RETURN_TYPES = ("LATENT",)
    RETURN_NAMES = ("start_noise",)
    OUTPUT_TOOLTIPS = (
        "For start_noise of Multi-Flow Sampler (VD), or for KSampler (Advanced) with add_noise disabled.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "The model that will sample."),
                "positive": socket("CONDITIONING", "What the picture or text is: best its own context."),
                "negative": socket("CONDITIONING", "From the same node as positive."),
                "latent_image": socket("LATENT", "From VAE Encode or Text to Latent (VD)."),
                "steps": steps("As many as the sampler will do; more are more exact."),
                "cfg": guidance_scale(
                    1.0, "1 is the most exact. To get the same back, sample with the same one."
                ),
            }
        }

    def execute(self, model, positive, negative, latent_image, steps, cfg):
        sampling = Sampling(steps=steps, cfg=cfg)
        return ({"samples": host.invert(model, positive, negative, latent_image, sampling), STEPS: steps},)


class VD_OfficialDDIM:
    """The official sampler for SamplerCustom."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "The official DDIM to the last digit for SamplerCustom and SamplerCustomAdvanced: its timesteps, its "
        "first noise level and its last one, which is not zero. ComfyUI's ddim differs by less than one "
        "percent. The official app draws its noise from seed + 100."
    )
    SEARCH_ALIASES = ["ddim", "exact ddim", "parity", "samplercustom"]
    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    OUTPUT_TOOLTIPS = ("For the sampler input.", "For the sigmas input.")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "The model that will be sampled."),
                "steps": steps("As in the official app, 50."),
                "eta": share(0.0, "How much noise is added on the way; 0 adds none."),
            }
        }

    def execute(self, model, steps, eta):
        return host.official_ddim(model, steps, eta)
