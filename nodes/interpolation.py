"""Nodes that interpolate: from one context or latent to another, and along the difference of two texts."""

from ..vd_core import interpolation
from .choices import CLIP, long_text, share, socket, whole
from .conditioning import interpolate_options, to_conditioning, to_contexts
from .contexts import OUTPUT_TOOLTIPS, TWO_CONTEXTS
from .host import host
from .latents import read_samples, share_steps

COUNT = whole(8, 2, 4096, "How many, both ends counted.")


class VD_Interpolate:
    """The way from one context to another."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Goes from one context to another in even steps, along great circles token by token: two pictures, "
        "or two prompts. The steps are a batch that conditions a batch of as many latents, one by one."
    )
    SEARCH_ALIASES = ["slerp", "lerp", "morph", "transition", "interpolation", "unclip"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "STRING")
    RETURN_NAMES = ("positive", "negative", "shares")
    OUTPUT_TOOLTIPS = (
        *OUTPUT_TOOLTIPS,
        "The share of the second at each step, one per line: labels for Sheet with Labels (VD).",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {**TWO_CONTEXTS, "count": COUNT}}

    def execute(self, positive_1, negative_1, positive_2, negative_2, count):
        first, second = to_contexts(positive_1, negative_1), to_contexts(positive_2, negative_2)
        shares = interpolation.spread_shares(count)
        sides = ((positive_1, positive_2), (negative_1, negative_2))
        options = tuple(interpolate_options(*side, shares) for side in sides)
        between = to_conditioning(interpolation.interpolate_blends(first, second, shares), options)
        return *between, "\n".join(f"{share:.2f}" for share in shares)


class VD_InterpolateLatents:
    """The way from one latent to another."""

    CATEGORY = "VersatileDiffusion"
    DESCRIPTION = (
        "Goes from one latent to another in even steps along the great circle, pictures or texts. Noisy "
        "latents stay noise of the right spread, which a plain average does not keep."
    )
    SEARCH_ALIASES = ["slerp", "latent blend", "latent interpolate", "morph"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("One latent per step; the first and the last are the two that came in.",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples_1": socket("LATENT", "Where to start: one latent, of a picture or of a text."),
                "samples_2": socket("LATENT", "Where to end: one latent of the same size."),
                "count": COUNT,
            }
        }

    def execute(self, samples_1, samples_2, count):
        shares = interpolation.spread_shares(count)
        between = interpolation.interpolate_latents(
            read_samples(samples_1, "samples_1"), read_samples(samples_2, "samples_2"), shares
        )
        return ({"samples": between, **share_steps(samples_1, samples_2)},)


class VD_TextDifference:
    """A picture's context turned by what two texts differ in."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Turns what is seen in a picture from what one text says towards what another one says, as unCLIP's "
        "text diffs do. The same text twice changes nothing."
    )
    SEARCH_ALIASES = ["unclip", "text diff", "language guided", "edit by words", "slerp"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": socket(
                    "CONDITIONING", "positive of an Image Context (VD), or of a blend with one."
                ),
                "negative": socket("CONDITIONING", "negative of the same node."),
                "clip": CLIP,
                "text_before": long_text("What the picture is, in words."),
                "text_after": long_text("The same words except for what should change."),
                "theta": share(
                    0.3,
                    "How far to turn: 0 not at all, 0.25 to 0.5 as in unCLIP, 1 leaves the difference alone.",
                ),
            }
        }

    def execute(self, positive, negative, clip, text_before, text_after, theta):
        before, after = host.embed_text(clip, [text_before, text_after]).split(1)
        turned = interpolation.text_diff_pictures(to_contexts(positive, negative), before, after, theta)
        return to_conditioning(turned, (positive[0][1], negative[0][1]))
