"""The few of ComfyUI's core nodes that the pack's workflows need, with the same names, inputs and values.

IMAGE is float [B, H, W, 3] in 0..1, MASK float [B, H, W] in 0..1 (1 = masked), LATENT {"samples": tensor
[B, C, h, w]}. A VAE has encode(images [B, H, W, 3]) -> latent and decode(latent) -> images. The hidden input
OUTPUT_DIRECTORY is the runner's own.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from operator import methodcaller
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vd_core.files import resolve_inside, save_numbered
from vd_core.pictures import read_frames

OF_A_RUN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "output_directory": "OUTPUT_DIRECTORY"}
TIMES = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}


def write_pictures(images, prefix: str, output_directory: str, chunks: dict) -> dict:
    """Save IMAGE as PNG files with JSON text chunks -> their `ui` entry.

    Raises ValueError for a bad prefix or shape, and OSError where they cannot be written, with the folder for
    temporary files that took them instead.
    """
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or 0 in images.shape:
        raise ValueError(f"Pictures must be [batch, height, width, 3 or 4], got {list(images.shape)}.")
    if not images.isfinite().all():
        raise ValueError(
            "A picture to save holds values that are not finite numbers (NaN or inf): what made it went "
            "wrong."
        )
    prefix = expand_prefix(prefix, images.shape[2], images.shape[1])
    root = Path(output_directory)
    folder, stem = resolve_inside(root, prefix, "filename_prefix")
    files = [encode_png(image, chunks) for image in images]
    try:
        names = save_files(files, folder, stem)
    except OSError as error:
        try:
            kept = Path(tempfile.mkdtemp(prefix="versatile_diffusion_"))
            save_files(files, kept, stem)
        except OSError:
            raise error from None
        raise OSError(f"{str(error).rstrip('.')}. The pictures of this node are kept in {kept}.") from error
    subfolder = folder.relative_to(root.resolve()).as_posix().removeprefix(".")
    return {"images": [{"filename": name, "subfolder": subfolder, "type": "output"} for name in names]}


def expand_prefix(prefix: str, width: int, height: int) -> str:
    """Fill in what core fills in: the size of the pictures, in pixels, and the time."""
    now = time.localtime()
    values = {"width": f"{width}", "height": f"{height}"}
    values |= {name: time.strftime(code, now) for name, code in TIMES.items()}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def encode_png(image: torch.Tensor, chunks: dict) -> bytes:
    """Encode a picture [H, W, 3 or 4] in 0..1 with text chunks."""
    info = PngInfo()
    for name, value in chunks.items():
        info.add_text(name, json.dumps(value))
    # Quirk kept: ComfyUI cuts the fraction off, it does not round.
    pixels = (image.detach().float().cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=info, compress_level=4)
    return file.getvalue()


def save_files(files: list[bytes], folder: Path, stem: str) -> list[str]:
    """Write PNG files of a batch under the next free numbers -> their names."""
    stems = [stem.replace("%batch_num%", str(number)) for number in range(len(files))]
    return [
        save_numbered(folder, name, "_.png", methodcaller("write", data)).name
        for name, data in zip(stems, files, strict=True)
    ]


class LoadImage:
    """A picture file -> all its frames as IMAGE [B, H, W, 3], and MASK = 1 - alpha, as `read_frames` says."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("STRING", {"image_upload": True})}}

    def execute(self, image):
        pixels, masks = read_frames(Path(image), image)
        return pixels.movedim(1, -1), masks


class SaveImage:
    """IMAGE -> PNG files PREFIX_00001_.png in the output folder, with the prompt inside, as in ComfyUI."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": OF_A_RUN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix):
        if filename_prefix is None:  # linked, or left to its default
            return True
        if not isinstance(filename_prefix, str):
            return f"filename_prefix takes STRING, not {filename_prefix!r}."
        try:
            resolve_inside(Path(), filename_prefix, "filename_prefix")
        except ValueError as error:
            return str(error)
        return True

    def execute(self, images, filename_prefix, prompt, extra_pnginfo, output_directory):
        return {
            "ui": write_pictures(
                images, filename_prefix, output_directory, {"prompt": prompt, **extra_pnginfo}
            )
        }


class PreviewImage:
    """IMAGE -> PNG files preview_00001_.png in the output folder: there is no page to show them on."""

    RETURN_TYPES = ()
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}, "hidden": OF_A_RUN}

    def execute(self, images, prompt, extra_pnginfo, output_directory):
        return {
            "ui": write_pictures(images, "preview", output_directory, {"prompt": prompt, **extra_pnginfo})
        }


class PreviewAny:
    """Anything -> text: strings as they are, lists as JSON, else what Python prints."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"source": ("*", {})}}

    def execute(self, source):
        text = str(source)
        if isinstance(source, (list, tuple, dict)):
            with contextlib.suppress(TypeError, ValueError):  # tensors inside
                text = json.dumps(source, ensure_ascii=False)
        return {"ui": {"text": (text,)}, "result": (text,)}


class EmptyLatentImage:
    """An all-zero LATENT [batch, 4, height / 8, width / 8]."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 512, "min": 16, "max": 16384, "step": 8}
        batch = {"default": 1, "min": 1, "max": 4096}
        return {"required": {"width": ("INT", side), "height": ("INT", side), "batch_size": ("INT", batch)}}

    def execute(self, width, height, batch_size):
        if width % 8 or height % 8:  # ComfyUI rounds down without a word
            raise ValueError(f"The sides of a picture must be divisible by 8, got {width}x{height}.")
        return ({"samples": torch.zeros(batch_size, 4, height // 8, width // 8)},)


class VAEEncode:
    """IMAGE -> LATENT; an alpha channel is dropped."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def execute(self, pixels, vae):
        shape = list(pixels.shape)
        if len(shape) != 4 or shape[-1] not in (3, 4) or 0 in shape or not pixels.is_floating_point():
            raise ValueError(f"pixels must be pictures [batch, height, width, 3 or 4] in 0..1, got {shape}.")
        return ({"samples": vae.encode(pixels[..., :3].float())},)


class SetLatentNoiseMask:
    """LATENT with a MASK: where to sample it again (1) and where to keep it (0)."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "mask": ("MASK",)}}

    def execute(self, samples, mask):
        return ({**samples, "noise_mask": mask.reshape(-1, 1, *mask.shape[-2:])},)


SCALING = ["nearest-exact", "bilinear", "area", "bicubic"]  # ComfyUI's lanczos is missing here


def scale(image: torch.Tensor, method: str, height: int, width: int) -> torch.Tensor:
    """Scale IMAGE to a size. Raises ValueError where nothing would be left, and for what is none."""
    if image.ndim != 4 or 0 in (*image.shape, height, width) or not image.is_floating_point():
        raise ValueError(f"Pictures {list(image.shape)} cannot be scaled to {width}x{height} pixels.")
    size = (height, width)
    return torch.nn.functional.interpolate(image.movedim(-1, 1), size=size, mode=method).movedim(1, -1)


def measure_sides(image: torch.Tensor) -> tuple[int, int]:
    """Return height and width of IMAGE, at least 1; `scale` refuses what is none."""
    return (max(1, image.shape[1]), max(1, image.shape[2])) if image.ndim == 4 else (1, 1)


class ImageScale:
    """IMAGE -> IMAGE of a size in pixels; a side of 0 follows the other."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 512, "min": 0, "max": 16384}
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (SCALING,),
                **{"width": ("INT", side), "height": ("INT", side)},
                "crop": (["disabled"],),
            }
        }

    def execute(self, image, upscale_method, width, height, crop):
        if width == height == 0:
            return (image,)
        rows, columns = measure_sides(image)
        width = width or max(1, round(columns * height / rows))
        height = height or max(1, round(rows * width / columns))
        return (scale(image, upscale_method, height, width),)


class ImageScaleBy:
    """IMAGE -> IMAGE of other sides."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        factor = {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01}
        return {
            "required": {"image": ("IMAGE",), "upscale_method": (SCALING,), "scale_by": ("FLOAT", factor)}
        }

    def execute(self, image, upscale_method, scale_by):
        return (scale(image, upscale_method, *(round(side * scale_by) for side in measure_sides(image))),)


class VAEDecode:
    """LATENT -> IMAGE."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def execute(self, samples, vae):
        latents = samples.get("samples")
        if not isinstance(latents, torch.Tensor):
            raise ValueError("samples must be a LATENT, a dictionary with a tensor of samples.")
        return (vae.decode(latents),)


class TorchCompileModel:
    """A MODEL whose diffuser is compiled by torch when it is first needed.

    What cannot be compiled runs as it is, after a sentence.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "backend": (["inductor", "cudagraphs"],)}}

    def execute(self, model, backend):
        return (model.compile(backend),)


CORE_NODES = {cls.__name__: cls for cls in (
    LoadImage, SaveImage, PreviewImage, PreviewAny, EmptyLatentImage, VAEEncode, SetLatentNoiseMask,
    ImageScale, ImageScaleBy, VAEDecode, TorchCompileModel,
)}  # fmt: skip
