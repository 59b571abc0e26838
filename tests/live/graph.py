"""Graphs as nested calls: `node("KSampler", model=MODEL, …)`; the same node object used twice is one node of
the graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, frozen=True)
class Node:
    """A node and its inputs: values, nodes (their first output) or outputs of nodes, `node[slot]`."""

    class_type: str
    inputs: dict

    def __getitem__(self, slot: int) -> tuple[Node, int]:
        return self, slot


def node(class_type: str, **inputs) -> Node:
    """A node of that class."""
    return Node(class_type, inputs)


def prompt_of(*outputs: Node) -> dict:
    """The graph that ends in these nodes, in ComfyUI's API format."""
    ids: dict[Node, str] = {}
    prompt: dict[str, dict] = {}

    def add(item: Node) -> str:
        if item not in ids:
            inputs = {name: link(value) for name, value in item.inputs.items()}
            ids[item] = str(len(ids) + 1)
            prompt[ids[item]] = {
                "class_type": item.class_type,
                "inputs": inputs,
                "_meta": {"title": item.class_type},
            }
        return ids[item]

    def link(value):
        if isinstance(value, Node):
            return [add(value), 0]
        if isinstance(value, tuple):
            return [add(value[0]), value[1]]
        return value

    for output in outputs:
        add(output)
    return prompt


# The parts of most graphs, on the embedded model.


def image_model(contexts: str = "all", weight_dtype: str = "default") -> Node:
    """Outputs MODEL, VAE."""
    return node(
        "VD_LoadImageModel",
        model="embedded",
        vae="from the model file",
        contexts=contexts,
        weight_dtype=weight_dtype,
    )


def text_model(contexts: str = "all", weight_dtype: str = "default") -> Node:
    """Outputs MODEL, VD_TEXT_VAE."""
    return node(
        "VD_LoadTextModel",
        model="embedded",
        text_vae="from the model file",
        contexts=contexts,
        weight_dtype=weight_dtype,
    )


def prompt(text: str, negative: str = "") -> Node:
    """Outputs positive, negative."""
    return node("VD_TextContext", clip=CLIP, text=text, negative_text=negative)


def seen(image, unconditional: str = "zeros", **optional) -> Node:
    """Outputs positive, negative."""
    inputs = {"focus": 0.5, "weight": 1.0, "unconditional": unconditional}
    return node("VD_ImageContext", clip_vision=CLIP_VISION, image=image, **inputs, **optional)


def blend(first: Node, second: Node, ratio: float) -> Node:
    """Outputs positive, negative."""
    return node(
        "VD_Blend",
        positive_1=first[0],
        negative_1=first[1],
        positive_2=second[0],
        negative_2=second[1],
        ratio=ratio,
    )


def region(context: Node, mask=None, **changes) -> Node:
    """Outputs positive, negative."""
    inputs = {
        "x": 0.0,
        "y": 0.0,
        "width": 1.0,
        "height": 1.0,
        "start": 0.0,
        "end": 1.0,
        **({} if mask is None else {"mask": mask}),
    }
    return node("VD_Region", positive=context[0], negative=context[1], **{**inputs, **changes})


def guidance(context: Node, factor: float) -> Node:
    """Outputs positive, negative."""
    return node("VD_ContextGuidance", positive=context[0], negative=context[1], guidance=factor)


CLIP = node("VD_LoadClip", model="embedded")
CLIP_VISION = node("VD_LoadClipVision", model="embedded")
IMAGE, TEXT = image_model(), text_model()
PICTURE = node("LoadImage", image="strawberry.png")
OTHER_PICTURE = node("LoadImage", image="rocket.png")
APPLE, STAR = prompt("red apple, 3d style"), prompt("yellow star, flat style")
STRAWBERRY, ROCKET = seen(PICTURE), seen(OTHER_PICTURE)
DUAL = blend(APPLE, ROCKET, 0.65)


def empty(batch: int = 1, width: int = 64, height: int = 64) -> Node:
    """Empty image latents."""
    return node("EmptyLatentImage", width=width, height=height, batch_size=batch)


def empty_text(batch: int = 2) -> Node:
    """Empty text latents."""
    return node("VD_EmptyTextLatent", text_vae=TEXT[1], batch_size=batch)


def ksampler(model, context: Node, latent, **changes) -> Node:
    """Stock KSampler, with few steps. `context` has outputs positive and negative, which `changes` may
    replace."""
    inputs = {
        "model": model,
        "positive": context[0],
        "negative": context[1],
        "latent_image": latent,
        "seed": 1,
        "steps": 4,
        "cfg": 2.0,
    }
    return node(
        "KSampler", **{**inputs, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0, **changes}
    )


def picture(latent, vae=IMAGE[1]) -> Node:
    """Decodes and shows image latents."""
    return node("PreviewImage", images=node("VAEDecode", samples=latent, vae=vae))


def sentence(latent, text_vae=TEXT[1]) -> Node:
    """Decodes and shows text latents."""
    inputs = {"seed": 1, "temperature": 0.5, "top_k": 0, "top_p": 1.0, "remove_duplicates": True}
    return node("PreviewAny", source=node("VD_TextDecode", text_vae=text_vae, samples=latent, **inputs))


@dataclass(frozen=True)
class Graph:
    """What is queued, and what is expected of it."""

    what: str  # one line for the table
    output: Node
    refused: str = ""  # a part of the sentence with which it is refused; empty: it runs
    differs: Node | None = (
        None  # a graph whose picture or text must be another one, where a patch could silently do nothing
    )
