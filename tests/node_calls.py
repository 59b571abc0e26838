"""Calls of the nodes that most tests make: a prompt, a picture, a sample."""

import torch

PICTURE = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
EMPTY = {"samples": torch.zeros(2, 4, 8, 8)}


def text(nodes, loaded, prompt="red apple"):
    return nodes["VD_TextContext"](clip=loaded["clip"], text=prompt, negative_text="")


def picture(nodes, loaded, **inputs):
    return nodes["VD_ImageContext"](**{"clip_vision": loaded["clip_vision"], "image": PICTURE, **inputs})


def draw(nodes, loaded, contexts, latent=EMPTY, model="image_model", **inputs):
    inputs = {"steps": 2, "seed": 3, **inputs}
    return nodes["VD_Sampler"](
        model=loaded[model], positive=contexts[0], negative=contexts[1], latent_image=latent, **inputs
    )[0]["samples"]
