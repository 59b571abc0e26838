"""Nodes whose pictures explain what the model and its contexts do."""

import torch

from ..vd_core import explain
from ..vd_core.pictures import resize_and_crop
from ..vd_core.sampling.samplers import SAMPLERS
from ..vd_core.sampling.schedule import Schedule
from ..vd_core.sheet import draw_sheet
from .choices import CLIP_VISION, choice, line, seed, share, socket, steps
from .host import host
from .images import to_rgb

CATEGORY = "VersatileDiffusion/explain"
MODEL = socket("MODEL", "From Load Versatile Diffusion, Load Image Model (VD) or Load Text Model (VD).")


class VD_ShowSchedule:
    """The noise schedule as curves."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Plots the noise schedule of a model: data and noise at each timestep, the logarithm of their ratio, "
        "and where the Multi-Flow Sampler (VD) calls the model."
    )
    SEARCH_ALIASES = ["plot", "noise schedule", "sigmas", "snr", "timesteps", "inspect"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The plots, one picture.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "steps": steps("As in the sampler."),
                "sampler": choice(
                    SAMPLERS, "ddim", "As in the sampler: the faster ones space the steps differently."
                ),
            }
        }

    def execute(self, model, steps, sampler):
        return (explain.draw_schedule(host.schedule_of(model), steps, sampler).movedim(1, -1),)


class VD_ForwardProcess:
    """A picture that turns into noise."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Shows what the model learns to undo: a picture's latent with the noise of chosen timesteps, added "
        "in one go and decoded, on one sheet with labels."
    )
    SEARCH_ALIASES = ["add noise", "q sample", "diffusion process", "noising"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The sheet, one picture.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": socket("MODEL", "image_model of Load Versatile Diffusion or Load Image Model (VD)."),
                "vae": socket("VAE", "From the same node."),
                "image": socket("IMAGE", "One picture; its sides are multiples of 8."),
                "timesteps": line("0 100 300 600 999", "From 0 (data) to 999 (noise), with spaces between."),
                "seed": seed("Of the noise, which is the same for all timesteps."),
            }
        }

    def execute(self, model, vae, image, timesteps, seed):
        config = host.config(model)
        schedule, scale = Schedule(config.schedule), config.diffuser.data["image"].latent_scale
        stops = explain.read_timesteps(timesteps, schedule)
        noised = explain.diffuse_to_timesteps(schedule, vae.encode(image[..., :3]) * scale, stops, seed)
        pictures = to_rgb(vae.decode(noised / scale))
        labels, title = explain.write_labels(schedule, stops), "Forward process: q(x_t | x_0)"
        return (draw_sheet(pictures, 5, labels, title).movedim(1, -1),)


class VD_FocusSpectrum:
    """What the focus does to a picture's tokens."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Plots what the patch tokens of a picture hold of each of their principal components, before and "
        "after the focus of Image Context (VD): the first few carry how it looks, the many others what it "
        "shows."
    )
    SEARCH_ALIASES = ["svd", "pca", "singular values", "disentangle", "semantic style"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("A plot per picture.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_vision": CLIP_VISION,
                "image": socket("IMAGE", "The pictures to look at."),
                "focus": share(0.5, "As in Image Context (VD); 0.5 changes nothing."),
            }
        }

    def execute(self, clip_vision, image, focus):
        tokens = host.encode_image(clip_vision, to_rgb(image), None)
        return (
            torch.cat([explain.draw_focus(patches.cpu(), focus) for patches in tokens[:, 1:]]).movedim(1, -1),
        )


class VD_Similarity:
    """How alike two contexts are."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Shows how alike two contexts are, token by token; and over the picture of the first one, how well "
        "each of its patches is found in the second."
    )
    SEARCH_ALIASES = ["cosine similarity", "heat map", "correspondence", "compare contexts", "attention map"]
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The heat maps, one picture.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive_1": socket("CONDITIONING", "positive of the first context, or any conditioning."),
                "positive_2": socket(
                    "CONDITIONING", "positive of the second context, with tokens of the same width."
                ),
            },
            "optional": {"image": socket("IMAGE", "The picture that the first context comes from.")},
        }

    def execute(self, positive_1, positive_2, image=None):
        (first, _), (second, _) = positive_1[0], positive_2[0]
        picture = None if image is None else resize_and_crop(to_rgb(image[:1]), min(image.shape[1:3]))[0]
        return (explain.draw_similarity(first[0].cpu(), second[0].cpu(), picture).movedim(1, -1),)
