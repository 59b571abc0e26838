"""The nodes of the pack. Ids, input names and their order are part of saved workflows: they never change, new
inputs come last."""

from .contexts import VD_Blend, VD_ImageContext, VD_Join, VD_TextContext
from .embeddings import VD_LoadContext, VD_SaveContext
from .examples import VD_ExamplePicture
from .explain import VD_FocusSpectrum, VD_ForwardProcess, VD_ShowSchedule, VD_Similarity
from .guidance import VD_Guidance
from .host import host
from .interpolation import VD_Interpolate, VD_InterpolateLatents, VD_TextDifference
from .loaders import VD_LoadClip, VD_LoadClipVision, VD_LoadImageModel, VD_LoadTextModel
from .lora import VD_LoadLora
from .low_pass import VD_LowPassTie
from .pictures import VD_ColorAdjust, VD_ImageEncode, VD_Squeeze
from .ranking import VD_RankImages, VD_RankTexts
from .references import PFD_LoadDiffuser, SeeCoder_Encode, SeeCoder_Load
from .regions import VD_ContextGuidance, VD_Region
from .sampling import VD_Invert, VD_OfficialDDIM, VD_Sampler
from .sheets import VD_Sheet, VD_Sweep
from .shift import VD_ResolutionShift
from .steering import VD_SteerByClip, VD_SteerByColor, VD_SteerToPicture
from .text import VD_EditText, VD_EmptyTextLatent, VD_TextDecode, VD_TextEncode
from .unified_loader import VD_Load

host.register()

NODE_CLASS_MAPPINGS = {
    "VD_LoadImageModel": VD_LoadImageModel,
    "VD_LoadTextModel": VD_LoadTextModel,
    "VD_LoadClip": VD_LoadClip,
    "VD_LoadClipVision": VD_LoadClipVision,
    "VD_TextContext": VD_TextContext,
    "VD_ImageContext": VD_ImageContext,
    "VD_Blend": VD_Blend,
    "VD_Sampler": VD_Sampler,
    "VD_OfficialDDIM": VD_OfficialDDIM,
    "VD_EmptyTextLatent": VD_EmptyTextLatent,
    "VD_TextEncode": VD_TextEncode,
    "VD_TextDecode": VD_TextDecode,
    "VD_EditText": VD_EditText,
    "VD_ColorAdjust": VD_ColorAdjust,
    "VD_Join": VD_Join,
    "VD_SaveContext": VD_SaveContext,
    "VD_LoadContext": VD_LoadContext,
    "SeeCoder_Load": SeeCoder_Load,
    "SeeCoder_Encode": SeeCoder_Encode,
    "PFD_LoadDiffuser": PFD_LoadDiffuser,
    "VD_RankImages": VD_RankImages,
    "VD_RankTexts": VD_RankTexts,
    "VD_Region": VD_Region,
    "VD_ContextGuidance": VD_ContextGuidance,
    "VD_Squeeze": VD_Squeeze,
    "VD_ImageEncode": VD_ImageEncode,
    "VD_Interpolate": VD_Interpolate,
    "VD_InterpolateLatents": VD_InterpolateLatents,
    "VD_TextDifference": VD_TextDifference,
    "VD_Sheet": VD_Sheet,
    "VD_Invert": VD_Invert,
    "VD_ShowSchedule": VD_ShowSchedule,
    "VD_ForwardProcess": VD_ForwardProcess,
    "VD_FocusSpectrum": VD_FocusSpectrum,
    "VD_Similarity": VD_Similarity,
    "VD_Guidance": VD_Guidance,
    "VD_SteerByClip": VD_SteerByClip,
    "VD_SteerByColor": VD_SteerByColor,
    "VD_SteerToPicture": VD_SteerToPicture,
    "VD_ResolutionShift": VD_ResolutionShift,
    "VD_LowPassTie": VD_LowPassTie,
    "VD_Load": VD_Load,
    "VD_ExamplePicture": VD_ExamplePicture,
    "VD_LoadLora": VD_LoadLora,
    "VD_Sweep": VD_Sweep,
}

# ComfyUI's older pages search names alone, and of those the first 30 letters: some hold the words that people
# type.
NODE_DISPLAY_NAME_MAPPINGS = {
    "VD_LoadImageModel": "Load Image Model (VD)",
    "VD_LoadTextModel": "Load Text Model (VD)",
    "VD_LoadClip": "Load CLIP (VD)",
    "VD_LoadClipVision": "Load CLIP Vision (VD)",
    "VD_TextContext": "Text Context (VD)",
    "VD_ImageContext": "Focus, Semantic Variation: Image Context (VD)",
    "VD_Blend": "Blend Contexts (VD)",
    "VD_Sampler": "Multi-Flow Sampler (VD)",
    "VD_OfficialDDIM": "Official DDIM (VD)",
    "VD_EmptyTextLatent": "Empty Text Latent (VD)",
    "VD_TextEncode": "Text to Latent (VD)",
    "VD_EditText": "Edit Text Latents (VD)",
    "VD_TextDecode": "Caption, Describe Image: Latent to Text (VD)",
    "VD_ColorAdjust": "Match Colours (VD)",
    "VD_Join": "Join Contexts (VD)",
    "VD_SaveContext": "Save Context (VD)",
    "VD_LoadContext": "Load Context: Brain Decoding (VD)",
    "SeeCoder_Load": "Load SeeCoder (Prompt-Free Diffusion)",
    "SeeCoder_Encode": "Reference, Style Transfer: SeeCoder Encode",
    "PFD_LoadDiffuser": "Load PFD Diffuser",
    "VD_RankImages": "Rank Pictures by CLIP (VD)",
    "VD_RankTexts": "Rank Texts by CLIP (VD)",
    "VD_Region": "Region (VD)",
    "VD_ContextGuidance": "Guidance per Context (VD)",
    "VD_Squeeze": "Squeeze Picture (VD)",
    "VD_ImageEncode": "Picture to Latent (VD)",
    "VD_Interpolate": "Interpolate Contexts (VD)",
    "VD_InterpolateLatents": "Interpolate Latents (VD)",
    "VD_TextDifference": "Turn by Texts (VD)",
    "VD_Sheet": "Sheet with Labels (VD)",
    "VD_Invert": "Invert Latent (VD)",
    "VD_ShowSchedule": "Show Schedule (VD)",
    "VD_ForwardProcess": "Show Forward Process (VD)",
    "VD_FocusSpectrum": "Show Focus (VD)",
    "VD_Similarity": "Show Similarity (VD)",
    "VD_Guidance": "Guidance Options (VD)",
    "VD_SteerByClip": "Steer by CLIP (VD)",
    "VD_SteerByColor": "Steer by Colours (VD)",
    "VD_SteerToPicture": "Steer to Picture (VD)",
    "VD_ResolutionShift": "Resolution Shift (VD)",
    "VD_LowPassTie": "Low-Pass Guidance (VD)",
    "VD_Load": "Load Versatile Diffusion",
    "VD_ExamplePicture": "Example Picture (VD)",
    "VD_LoadLora": "Load LoRA (VD)",
    "VD_Sweep": "Sweep Values (VD)",
}
