"""The host inside ComfyUI: flows, encoders and autoencoders are core's objects, so that its own nodes work with them."""

from .clip import controlnet_tokens, encode_image, encode_text
from .files import file_names, find, load_clip, load_clip_vision, load_flow, load_image_vae, load_text_vae, register_folder
from .sampling import official_ddim, sample

__all__ = [
    "controlnet_tokens",
    "encode_image",
    "encode_text",
    "file_names",
    "find",
    "load_clip",
    "load_clip_vision",
    "load_flow",
    "load_image_vae",
    "load_text_vae",
    "official_ddim",
    "register_folder",
    "sample",
]
