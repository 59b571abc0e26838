"""The nodes of the pack. Ids, input names and their order are part of saved workflows: they never change, new inputs come last."""

from .contexts import VD_Blend, VD_ImageContext, VD_TextContext
from .loaders import VD_Load
from .pictures import VD_ColorAdjust
from .sampling import VD_Sampler
from .text import VD_EmptyTextLatent, VD_TextDecode, VD_TextEncode

NODE_CLASS_MAPPINGS = {
    "VD_Load": VD_Load,
    "VD_TextContext": VD_TextContext,
    "VD_ImageContext": VD_ImageContext,
    "VD_Blend": VD_Blend,
    "VD_Sampler": VD_Sampler,
    "VD_EmptyTextLatent": VD_EmptyTextLatent,
    "VD_TextEncode": VD_TextEncode,
    "VD_TextDecode": VD_TextDecode,
    "VD_ColorAdjust": VD_ColorAdjust,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "VD_Load": "Load Versatile Diffusion",
    "VD_TextContext": "Text Context (VD)",
    "VD_ImageContext": "Image Context (VD)",
    "VD_Blend": "Blend Contexts (VD)",
    "VD_Sampler": "Multi-Flow Sampler (VD)",
    "VD_EmptyTextLatent": "Empty Text Latent (VD)",
    "VD_TextEncode": "Text to Latent (VD)",
    "VD_TextDecode": "Latent to Text (VD)",
    "VD_ColorAdjust": "Match Colours (VD)",
}
