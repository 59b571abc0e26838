"""What saved workflows rely on: the inputs and outputs of every node."""

import json

from vd_core.embedded import FOLDER

EXAMPLES = json.loads((FOLDER / "pictures.json").read_text(encoding="utf-8"))
MAX_SEED = 18446744073709551615
SEED = ("INT", {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True})
SHARE = ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01})
NOTHING = ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01})
WHOLE = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01})
LINES = ("STRING", {"default": "", "multiline": True})
FILES = (["embedded", "tiny.safetensors"], {"default": "embedded"})
OTHER_FILES = (["from the model file", "tiny.safetensors"], {"default": "from the model file"})
KINDS = (["all", "text", "image"], {"default": "all"})
DTYPES = (
    ["default", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e5m2", "auto"],
    {"default": "default", "advanced": True},
)
PAIRS = {f"{side}_{number}": ("CONDITIONING", {}) for number in (1, 2) for side in ("positive", "negative")}
WEIGHT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.01})
NOISE = (["per sample", "official"], {"default": "per sample"})
PIXELS = ("INT", {"default": 512, "min": 8, "max": 8192, "step": 8})
STEERING = {
    "start": NOTHING,
    "end": ("FLOAT", {**NOTHING[1], "default": 1.0}),
    "gradient": (["fast", "exact"], {"default": "fast"}),
}
BEST = ("INT", {"default": 0, "min": 0, "max": 4096})
COUNT = ("INT", {"default": 8, "min": 2, "max": 4096})
OPPOSITES = {"positive": "CONDITIONING", "negative": "CONDITIONING"}

# Saved workflows hold ids, input names, the order of the values, output numbers and choices. Never change a
# line of this table: new inputs come last, with a default.
PINNED = {
    "VD_LoadImageModel": (
        {"model": FILES, "vae": OTHER_FILES, "contexts": KINDS, "weight_dtype": DTYPES},
        {"image_model": "MODEL", "vae": "VAE"},
    ),
    "VD_LoadTextModel": (
        {"model": FILES, "text_vae": OTHER_FILES, "contexts": KINDS, "weight_dtype": DTYPES},
        {"text_model": "MODEL", "text_vae": "VD_TEXT_VAE"},
    ),
    "VD_LoadClip": ({"model": FILES}, {"CLIP": "CLIP"}),
    "VD_LoadClipVision": ({"model": FILES}, {"CLIP_VISION": "CLIP_VISION"}),
    "VD_TextContext": ({"clip": ("CLIP", {}), "text": LINES, "negative_text": LINES}, OPPOSITES),
    "VD_ImageContext": (
        {
            "clip_vision": ("CLIP_VISION", {}),
            "image": ("IMAGE", {}),
            "focus": SHARE,
            "weight": WEIGHT,
            "unconditional": (["zeros", "black", "grey"], {"default": "zeros"}),
            "mask": ("MASK", {}),
            "tokens": (["all", "patches", "style"], {"default": "all"}),
        },
        OPPOSITES,
    ),
    "VD_Blend": ({**PAIRS, "ratio": SHARE}, OPPOSITES),
    "VD_Sampler": (
        {
            "model": ("MODEL", {}),
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "latent_image": ("LATENT", {}),
            "seed": SEED,
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "cfg": ("FLOAT", {"default": 7.5, "min": 0.0, "max": 100.0, "step": 0.1}),
            "sampler": (
                ["ddim", "ddpm", "euler", "dpmpp_2m", "unipc", "pndm", "ddgan", "lcm"],
                {"default": "ddim"},
            ),
            "eta": NOTHING,
            "fidelity": NOTHING,
            "noise": (["per sample", "official", "shared"], {"default": "per sample"}),
            "start_noise": ("LATENT", {}),
        },
        {"LATENT": "LATENT"},
    ),
    "VD_OfficialDDIM": (
        {"model": ("MODEL", {}), "steps": ("INT", {"default": 50, "min": 1, "max": 1000}), "eta": NOTHING},
        {"SAMPLER": "SAMPLER", "SIGMAS": "SIGMAS"},
    ),
    "VD_EmptyTextLatent": (
        {"text_vae": ("VD_TEXT_VAE", {}), "batch_size": ("INT", {"default": 4, "min": 1, "max": 4096})},
        {"LATENT": "LATENT"},
    ),
    "VD_TextEncode": ({"text_vae": ("VD_TEXT_VAE", {}), "text": LINES}, {"LATENT": "LATENT"}),
    "VD_TextDecode": (
        {
            "text_vae": ("VD_TEXT_VAE", {}),
            "samples": ("LATENT", {}),
            "seed": SEED,
            "temperature": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01}),
            "top_k": ("INT", {"default": 0, "min": 0, "max": 100000}),
            "top_p": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            "remove_duplicates": ("BOOLEAN", {"default": True}),
            "noise": NOISE,
        },
        {"text": "STRING", "texts": "STRING"},
    ),
    "VD_EditText": (
        {"text_vae": ("VD_TEXT_VAE", {}), "samples": ("LATENT", {}), "remove": LINES, "add": LINES},
        {"LATENT": "LATENT"},
    ),
    "VD_ColorAdjust": ({"image": ("IMAGE", {}), "reference": ("IMAGE", {})}, {"IMAGE": "IMAGE"}),
    "VD_Join": (
        {**PAIRS, "mode": (["concatenate", "average"], {"default": "concatenate"}), "share": SHARE},
        OPPOSITES,
    ),
    "VD_SaveContext": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "filename_prefix": ("STRING", {"default": "context"}),
        },
        {},
    ),
    "VD_LoadContext": (
        {
            "file": (["brain-pictures.safetensors", "brain-texts.safetensors", "tiny.safetensors"], {}),
            "kind": (["as saved", "text", "image"], {"default": "as saved"}),
            "normalise": ("BOOLEAN", {"default": False}),
        },
        OPPOSITES,
    ),
    "SeeCoder_Load": ({"model": FILES}, {"SEECODER": "SEECODER"}),
    "SeeCoder_Encode": (
        {
            "seecoder": ("SEECODER", {}),
            "image": ("IMAGE", {}),
            "global_weight": WEIGHT,
            "local_weight": WEIGHT,
            "strength": WEIGHT,
            "longest_side": ("INT", {"default": 1024, "min": 0, "max": 8192, "step": 8}),
            "crop": ("BOOLEAN", {"default": False}),
            "mask": ("MASK", {}),
            "unconditional": ("CONDITIONING", {}),
            "model": ("MODEL", {}),
        },
        OPPOSITES,
    ),
    "PFD_LoadDiffuser": ({"model": (["tiny.safetensors"], {})}, {"MODEL": "MODEL"}),
    "VD_RankImages": (
        {
            "clip": ("CLIP", {}),
            "clip_vision": ("CLIP_VISION", {}),
            "image": ("IMAGE", {}),
            "text": LINES,
            "best": BEST,
        },
        {"IMAGE": "IMAGE", "report": "STRING", "scores": "FLOAT"},
    ),
    "VD_RankTexts": (
        {
            "clip": ("CLIP", {}),
            "clip_vision": ("CLIP_VISION", {}),
            "image": ("IMAGE", {}),
            "texts": LINES,
            "best": BEST,
        },
        {"text": "STRING", "texts": "STRING", "report": "STRING", "scores": "FLOAT"},
    ),
    "VD_Region": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "x": NOTHING,
            "y": NOTHING,
            "width": WHOLE,
            "height": WHOLE,
            "start": NOTHING,
            "end": WHOLE,
            "mask": ("MASK", {}),
        },
        OPPOSITES,
    ),
    "VD_ContextGuidance": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "guidance": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05}),
        },
        OPPOSITES,
    ),
    "VD_Squeeze": (
        {"image": ("IMAGE", {}), "width": PIXELS, "height": PIXELS, "mask": ("MASK", {})},
        {"IMAGE": "IMAGE", "MASK": "MASK"},
    ),
    "VD_ImageEncode": (
        {
            "pixels": ("IMAGE", {}),
            "vae": ("VAE", {}),
            "seed": SEED,
            "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
        },
        {"LATENT": "LATENT"},
    ),
    "VD_Interpolate": ({**PAIRS, "count": COUNT}, {**OPPOSITES, "shares": "STRING"}),
    "VD_InterpolateLatents": (
        {"samples_1": ("LATENT", {}), "samples_2": ("LATENT", {}), "count": COUNT},
        {"LATENT": "LATENT"},
    ),
    "VD_TextDifference": (
        {
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "clip": ("CLIP", {}),
            "text_before": LINES,
            "text_after": LINES,
            "theta": ("FLOAT", {"default": 0.3, "min": 0.0, "max": 1.0, "step": 0.01}),
        },
        OPPOSITES,
    ),
    "VD_Sheet": (
        {
            "image": ("IMAGE", {}),
            "columns": ("INT", {"default": 4, "min": 1, "max": 64}),
            "labels": LINES,
            "title": ("STRING", {"default": ""}),
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_Invert": (
        {
            "model": ("MODEL", {}),
            "positive": ("CONDITIONING", {}),
            "negative": ("CONDITIONING", {}),
            "latent_image": ("LATENT", {}),
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "cfg": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.1}),
        },
        {"start_noise": "LATENT"},
    ),
    "VD_ShowSchedule": (
        {
            "model": ("MODEL", {}),
            "steps": ("INT", {"default": 50, "min": 1, "max": 1000}),
            "sampler": (
                ["ddim", "ddpm", "euler", "dpmpp_2m", "unipc", "pndm", "ddgan", "lcm"],
                {"default": "ddim"},
            ),
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_ForwardProcess": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "timesteps": ("STRING", {"default": "0 100 300 600 999"}),
            "seed": SEED,
        },
        {"IMAGE": "IMAGE"},
    ),
    "VD_FocusSpectrum": (
        {"clip_vision": ("CLIP_VISION", {}), "image": ("IMAGE", {}), "focus": SHARE},
        {"IMAGE": "IMAGE"},
    ),
    "VD_Similarity": (
        {"positive_1": ("CONDITIONING", {}), "positive_2": ("CONDITIONING", {}), "image": ("IMAGE", {})},
        {"IMAGE": "IMAGE"},
    ),
    "VD_Guidance": (
        {
            "model": ("MODEL", {}),
            "start": ("FLOAT", {"default": 0.2, "min": 0.0, "max": 0.999, "step": 0.001}),
            "end": ("FLOAT", {"default": 0.8, "min": 0.001, "max": 1.0, "step": 0.001}),
            "rescale": NOTHING,
            "threshold": (["none", "static", "dynamic"], {"default": "dynamic"}),
            "percentile": ("FLOAT", {"default": 0.995, "min": 0.5, "max": 1.0, "step": 0.001}),
            "bound": ("FLOAT", {"default": 4.0, "min": 0.1, "max": 100.0, "step": 0.1}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerByClip": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "clip_vision": ("CLIP_VISION", {}),
            "text": LINES,
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.05}),
            **STEERING,
            "clip": ("CLIP", {}),
            "image": ("IMAGE", {}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerByColor": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.2}),
            **STEERING,
        },
        {"MODEL": "MODEL"},
    ),
    "VD_SteerToPicture": (
        {
            "model": ("MODEL", {}),
            "vae": ("VAE", {}),
            "image": ("IMAGE", {}),
            "strength": ("FLOAT", {**NOTHING[1], "default": 0.2}),
            **STEERING,
            "mask": ("MASK", {}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_ResolutionShift": (
        {
            "model": ("MODEL", {}),
            "latent_image": ("LATENT", {}),
            "noisy": WEIGHT,
            "clean": WEIGHT,
            "trained_side": ("INT", {"default": 0, "min": 0, "max": 4096}),
        },
        {"MODEL": "MODEL"},
    ),
    "VD_LowPassTie": (
        {
            "model": ("MODEL", {}),
            "latent_image": ("LATENT", {}),
            "factor": ("INT", {"default": 2, "min": 1, "max": 64}),
            "strength": WHOLE,
            "end": WHOLE,
        },
        {"MODEL": "MODEL"},
    ),
    "VD_Load": (
        {"model": FILES, "weight_dtype": DTYPES},
        {
            "image_model": "MODEL",
            "text_model": "MODEL",
            "clip": "CLIP",
            "clip_vision": "CLIP_VISION",
            "vae": "VAE",
            "text_vae": "VD_TEXT_VAE",
            "size": "INT",
            "steps": "INT",
            "cfg": "FLOAT",
        },
    ),
    "VD_ExamplePicture": (
        {
            "name": (EXAMPLES["names"], {"default": "strawberry"}),
            "style": (EXAMPLES["styles"], {"default": "noto"}),
            "masked": (["background", "thing", "right half", "lower half"], {"default": "background"}),
        },
        {"IMAGE": "IMAGE", "MASK": "MASK"},
    ),
    "VD_LoadLora": (
        {
            "model": ("MODEL", {}),
            # the second comes with the pack
            "lora": (["tiny.safetensors", "versatile_diffusion_emoji_4_steps.safetensors"], {}),
            "strength": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}),
            "clip": ("CLIP", {}),
        },
        {"MODEL": "MODEL", "CLIP": "CLIP"},
    ),
    "VD_Sweep": (
        {"values": ("STRING", {"default": "0 0.25 0.5 0.75 1"})},
        {"values": "FLOAT", "labels": "STRING"},
    ),
}
OPTIONAL = {
    "VD_Load": ["weight_dtype"],
    "VD_LoadLora": ["clip"],
    "VD_ImageContext": ["mask", "tokens"],
    "VD_Sampler": ["start_noise"],
    "SeeCoder_Encode": ["mask", "unconditional", "model"],
    "VD_Region": ["mask"],
    "VD_Similarity": ["image"],
    "VD_TextDecode": ["noise"],
    "VD_Squeeze": ["mask"],
    "VD_SteerByClip": ["clip", "image"],
    "VD_SteerToPicture": ["mask"],
}
LISTS = {
    "VD_TextDecode": (False, True),
    "VD_RankImages": (False, False, True),
    "VD_RankTexts": (False, True, False, True),
    "VD_Sweep": (True, False),
}
CATEGORIES = {
    "VD_LoadImageModel": "VersatileDiffusion/loaders",
    "VD_LoadTextModel": "VersatileDiffusion/loaders",
    "VD_LoadClip": "VersatileDiffusion/loaders",
    "VD_LoadClipVision": "VersatileDiffusion/loaders",
    "VD_TextContext": "VersatileDiffusion/conditioning",
    "VD_ImageContext": "VersatileDiffusion/conditioning",
    "VD_Blend": "VersatileDiffusion/conditioning",
    "VD_Sampler": "VersatileDiffusion",
    "VD_OfficialDDIM": "VersatileDiffusion",
    "VD_EmptyTextLatent": "VersatileDiffusion/text",
    "VD_TextEncode": "VersatileDiffusion/text",
    "VD_TextDecode": "VersatileDiffusion/text",
    "VD_EditText": "VersatileDiffusion/text",
    "VD_ColorAdjust": "VersatileDiffusion",
    "VD_Join": "VersatileDiffusion/conditioning",
    "VD_SaveContext": "VersatileDiffusion/conditioning",
    "VD_LoadContext": "VersatileDiffusion/conditioning",
    "SeeCoder_Load": "VersatileDiffusion/seecoder",
    "SeeCoder_Encode": "VersatileDiffusion/seecoder",
    "PFD_LoadDiffuser": "VersatileDiffusion/seecoder",
    "VD_RankImages": "VersatileDiffusion",
    "VD_RankTexts": "VersatileDiffusion/text",
    "VD_Region": "VersatileDiffusion/conditioning",
    "VD_ContextGuidance": "VersatileDiffusion/conditioning",
    "VD_Squeeze": "VersatileDiffusion",
    "VD_ImageEncode": "VersatileDiffusion",
    "VD_Interpolate": "VersatileDiffusion/conditioning",
    "VD_InterpolateLatents": "VersatileDiffusion",
    "VD_TextDifference": "VersatileDiffusion/conditioning",
    "VD_Sheet": "VersatileDiffusion",
    "VD_Invert": "VersatileDiffusion",
    "VD_ShowSchedule": "VersatileDiffusion/explain",
    "VD_ForwardProcess": "VersatileDiffusion/explain",
    "VD_FocusSpectrum": "VersatileDiffusion/explain",
    "VD_Similarity": "VersatileDiffusion/explain",
    "VD_Guidance": "VersatileDiffusion",
    "VD_SteerByClip": "VersatileDiffusion/steering",
    "VD_SteerByColor": "VersatileDiffusion/steering",
    "VD_SteerToPicture": "VersatileDiffusion/steering",
    "VD_ResolutionShift": "VersatileDiffusion",
    "VD_LowPassTie": "VersatileDiffusion",
    "VD_Load": "VersatileDiffusion/loaders",
    "VD_ExamplePicture": "VersatileDiffusion",
    "VD_LoadLora": "VersatileDiffusion/loaders",
    "VD_Sweep": "VersatileDiffusion",
}
