"""Made-up node classes and graphs of them, for the tests of the runner."""

import torch


class Paint:
    """A picture of one brightness; counts its calls."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"
    calls = []

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 9, "control_after_generate": True}),
                "level": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "style": (["flat", "round"],),
                "wide": ("BOOLEAN", {"default": False}),
            },
            "optional": {"image": ("IMAGE",), "noise": (["a", 2], {})},
        }

    def execute(self, text, seed, level, style, wide, image=None, noise=None):
        Paint.calls.append(
            {"text": text, "seed": seed, "level": level, "style": style, "wide": wide, "noise": noise}
        )
        if text == "fail":
            raise ValueError("The colour\nis unknown.")
        if text == "stop":
            raise KeyboardInterrupt
        if text == "bug":
            raise KeyError("bug")
        return (torch.full((1, 8, 16 if wide else 8, 3), level),)


class Words:
    """Three words as a list, and joined."""

    RETURN_TYPES = ("STRING", "STRING")
    OUTPUT_IS_LIST = (True, False)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True})}}

    def execute(self, text):
        return text.split(), text


class Upper:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"word": ("STRING", {"forceInput": True}), "mark": ("STRING", {"default": "!"})}}

    def execute(self, word, mark):
        return (word.upper() + mark,)


class Count:
    RETURN_TYPES = ("INT",)
    INPUT_IS_LIST = True
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"words": ("STRING", {"forceInput": True})}, "hidden": {"me": "UNIQUE_ID"}}

    def execute(self, words, me):
        assert me == ["9"]
        return (len(words),)


class Vae:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def execute(self):
        return (self,)

    def encode(self, images):
        assert images.shape[-1] == 3
        return images.permute(0, 3, 1, 2)[..., ::8, ::8]

    def decode(self, latent):
        return latent[:, :3].permute(0, 2, 3, 1).clamp(0, 1)


CLASSES = {"Paint": Paint, "Words": Words, "Upper": Upper, "Count": Count, "Vae": Vae}


def node(kind, title=None, **inputs):
    return {"class_type": kind, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def paint(title="Painter", **inputs):
    return node(
        "Paint", title, **{"text": "x", "seed": 1, "level": 0.5, "style": "flat", "wide": False, **inputs}
    )


def painting(**inputs):
    return {"1": paint(**inputs), "2": node("SaveImage", images=["1", 0], filename_prefix="art")}
