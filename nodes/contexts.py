"""Context nodes: what conditions a sample."""

from functools import partial

from ..vd_core import context, flows
from .advice import advise_words
from .choices import CLIP, CLIP_VISION, choice, long_text, multiplier, share, socket
from .conditioning import join_conditionings, to_conditioning, to_contexts
from .host import host
from .images import to_masks, to_rgb

JOINS = ("concatenate", "average")
TWO_CONTEXTS = {
    f"{side}_{number}": socket("CONDITIONING", f"{side} of the {which} context.")
    for number, which in ((1, "first"), (2, "second"))
    for side in ("positive", "negative")
}
OUTPUT_TOOLTIPS = ("What to move towards.", "What to move away from. Wire it together with positive.")


class VD_TextContext:
    """A prompt as a context."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = "Reads a prompt for Versatile Diffusion. It can condition pictures as well as texts."
    SEARCH_ALIASES = ["prompt", "clip text encode", "versatile diffusion text"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": CLIP,
                "text": long_text("What to show or to say. (word:1.5) counts more, (word:0) not at all."),
                "negative_text": long_text("What to avoid; usually empty."),
            }
        }

    def execute(self, clip, text, negative_text):
        host.tell(advise_words(text, partial(host.count_tokens, clip)))
        texts = [text, negative_text]
        weights = host.weigh_tokens(clip, texts)
        seen = flows.make_text_context(
            host.encode_text(clip, texts), weights if (weights != 1).any() else None
        )
        return to_conditioning([seen], host.conditioning_options(clip, texts))


class VD_ImageContext:
    """A picture as a context."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Looks at a picture for Versatile Diffusion. It can condition pictures (variations) as well as texts "
        "(captions). Only the centre of a picture that is not square is seen; the official app squeezes it "
        "to 512x512 first, as Squeeze Picture (VD) does."
    )
    SEARCH_ALIASES = [
        "clip vision encode",
        "image variation",
        "reimagine",
        "reference image",
        "style transfer",
        "semantic",
        "versatile diffusion image",
        "focus",
    ]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_vision": CLIP_VISION,
                "image": socket(
                    "IMAGE", "The picture to look at. A batch conditions a batch of latents, one by one."
                ),
                "focus": share(0.5, "0: what it shows (semantics), 0.5: all, 1: how it looks (style)."),
                "weight": multiplier("Scales the tokens of the picture; 1 leaves them as they are."),
                "unconditional": choice(
                    flows.NULL_IMAGES,
                    "zeros",
                    "What negative holds: zeros for pictures, black for captions (both as the official app), "
                    "or grey.",
                ),
            },
            "optional": {
                "mask": socket("MASK", "What is painted (white) is left out of the context."),
                "tokens": choice(
                    flows.IMAGE_TOKENS,
                    flows.IMAGE_TOKENS[0],
                    "all; patches: without the global token; style: only the leading components of the "
                    "patches (I2T2I).",
                ),
            },
        }

    def execute(
        self, clip_vision, image, focus, weight, unconditional, mask=None, tokens=flows.IMAGE_TOKENS[0]
    ):
        keep = None if mask is None else 1 - to_masks(mask)
        seen = flows.make_image_context(
            partial(host.encode_image, clip_vision), to_rgb(image), keep, focus, unconditional
        )
        seen = flows.select_image_tokens(seen, tokens)
        return to_conditioning([context.Context(seen.kind, seen.tokens * weight, seen.null)])


class VD_Blend:
    """A blend of two contexts or blends."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Blends two contexts, such as a prompt and a picture. Blends can be blended again: the ratios "
        "multiply through."
    )
    SEARCH_ALIASES = ["mix", "blend images", "dual context", "dual guided", "multi context", "average"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **TWO_CONTEXTS,
                "ratio": share(0.5, "Share of the second: 0 is the first alone, 1 the second alone."),
            }
        }

    def execute(self, positive_1, negative_1, positive_2, negative_2, ratio):
        blended = context.blend(
            to_contexts(positive_1, negative_1), to_contexts(positive_2, negative_2), ratio
        )
        # what other nodes added, ControlNets for one, stays
        sides = ((positive_1, positive_2), (negative_1, negative_2))
        return to_conditioning(blended, tuple({**first[0][1], **second[0][1]} for first, second in sides))


class VD_Join:
    """Two contexts of one kind as one."""

    CATEGORY = "VersatileDiffusion/conditioning"
    DESCRIPTION = (
        "Makes one context of two of the same kind: several pictures as the official app takes them, several "
        "references of SeeCoder, or a reference and a prompt of Stable Diffusion 1. The layers then read "
        "both at once."
    )
    SEARCH_ALIASES = ["multi context", "concatenate", "conditioning concat", "average", "several references"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = OUTPUT_TOOLTIPS
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **TWO_CONTEXTS,
                "mode": choice(
                    JOINS,
                    JOINS[0],
                    "concatenate: tokens side by side; average: token by token, zeros where one ends.",
                ),
                "share": share(0.5, "Share of the second, when averaging."),
            }
        }

    def execute(self, positive_1, negative_1, positive_2, negative_2, mode, share):
        weight = share if mode == "average" else None
        return join_conditionings(positive_1, positive_2, weight), join_conditionings(
            negative_1, negative_2, weight
        )
