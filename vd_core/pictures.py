"""Read picture files, the one way in for all; convert between tensors and PIL; resize as the app does.

Every file that a user names is read by `read_picture` (one picture on a background) or `read_frames` (all
frames with their masks). Resizing is the official app's: PIL's, on 8-bit pictures.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from torch import Tensor

from .foreign import quote_error
from .memory import is_out_of_memory
from .placement import check_not_meta

# What Pillow decodes by itself. Left out: EPS and WMF, which start other programs, IPTC, which may hold an
# EPS, formats that Pillow only recognises, and those of a few old programs. TGA has no signature, so it comes
# last.
FORMATS = (
    *(
        "PNG",
        "JPEG",
        "MPO",
        "WEBP",
        "GIF",
        "AVIF",
        "TIFF",
        "BMP",
        "DIB",
        "JPEG2000",
        "ICO",
        "ICNS",
        "QOI",
        "PSD",
        "DDS",
    ),
    *("PPM", "PCX", "SGI", "SUN", "IM", "MSP", "XBM", "XPM", "TGA"),
)
MOST_PIXELS = 178_956_970  # of all frames together: where Pillow too refuses a single one
WILDEST = 16.0  # beyond 0..1: farther out lie pictures in 0..255 alone, not what was drawn badly
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@cache
def list_endings() -> tuple[str, ...]:
    """Return the file name endings of all formats that are read, in lower case and with the dot."""
    return tuple(sorted(ending for ending, name in Image.registered_extensions().items() if name in FORMATS))


def read_picture(source: Path | bytes, name: str, background: str = "white") -> Image.Image:
    """Read the first frame of a picture file as RGB, transparent parts composited on `background`, a colour.

    source: the file, or its bytes. name: what messages call it.

    Raises ValueError with one sentence for whatever cannot be read as a picture, and OSError where a file
    cannot be opened.
    """
    with name_lack_of_memory(name):
        frame = decode(source, name, most=1)[0]
        if not frame.has_transparency_data:
            return frame.convert("RGB")
        ground = Image.new("RGBA", frame.size, background)
        return Image.alpha_composite(ground, frame.convert("RGBA")).convert("RGB")


def read_frames(source: Path | bytes, name: str) -> tuple[Tensor, Tensor]:
    """Read all frames of a file as ComfyUI's LoadImage does: pictures [B, 3, H, W] in 0..1, masks [B, H, W].

    A mask is 1 where the picture is transparent; colours under it are kept. Frames of another size than the
    first one are left out. Without an alpha channel the masks are zeros [B, 64, 64], and a colour that counts
    as transparent (PNG's tRNS outside of palettes) makes none, both as in ComfyUI. Raises as `read_picture`
    does.
    """
    with name_lack_of_memory(name):
        return split_alpha(decode(source, name))


@contextmanager
def name_lack_of_memory(name: str) -> Iterator[None]:
    """Raise ValueError with the name of a picture where there is not enough memory to read it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{name} cannot be read as a picture: there is not enough memory for its pixels."
        ) from error


def split_alpha(frames: list[Image.Image]) -> tuple[Tensor, Tensor]:
    """Return frames as `read_frames` does, of those of the first one's size."""
    frames = [frame for frame in frames if frame.size == frames[0].size]
    colors = [
        frame.convert("RGBA" if frame.has_transparency_data else "RGB").convert("RGB") for frame in frames
    ]
    modes = ("LA", "La", "RGBA", "RGBa", "PA")
    masked = [frame.mode in modes or (frame.mode == "P" and "transparency" in frame.info) for frame in frames]
    if not any(masked):
        return from_pil(colors), torch.zeros(len(frames), 64, 64)
    opaque = Image.new("L", frames[0].size, 255)
    alphas = [
        frame.convert("RGBA").getchannel("A") if mask else opaque
        for frame, mask in zip(frames, masked, strict=True)
    ]
    return from_pil(colors), 1 - from_pil(alphas)[:, 0]


def decode(source: Path | bytes, name: str, most: int | None = None) -> list[Image.Image]:
    """Decode the frames of a picture file, upright, 8 bits per channel, in any mode of PIL's.

    most: how many frames at most; None = all. Of an MPO, whose other pictures are previews or the other eye,
    only the first is read. Raises as `read_picture` does.
    """
    Image.init()  # all plugins; some formats are missing from some builds of Pillow
    formats = [format for format in FORMATS if format in Image.OPEN]
    pixels, frames = 0, []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes, which have their own bound here
            with Image.open(
                io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats
            ) as file:
                for frame in islice(ImageSequence.Iterator(file), 1 if file.format == "MPO" else most):
                    pixels += frame.width * frame.height
                    if pixels > MOST_PIXELS:
                        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels")
                    frames.append(to_8_bits(turn_upright(frame)))
    except UnidentifiedImageError:
        known = "PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP and the like"
        raise ValueError(f"{name} cannot be read as a picture: it is none of {known}, or damaged.") from None
    except MemoryError:
        raise  # no fault of the file
    except Exception as error:  # decoders meet foreign bytes here and fail in any way
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not there, or not to be opened: the system's words
        raise ValueError(f"{name} cannot be read as a picture: {quote_error(error)}.") from error
    return frames


def turn_upright(frame: Image.Image) -> Image.Image:
    """Return a copy of a frame turned as its EXIF data says; as it lies where these are damaged."""
    frame.load()  # first, so that damaged pixels are not taken for damaged EXIF data
    try:
        return ImageOps.exif_transpose(frame)
    except Exception:  # the parser meets foreign bytes
        return frame.copy()


def to_8_bits(frame: Image.Image) -> Image.Image:
    """Scale grey values of 16 or 32 bits, or floats in 0..1, to 8 bits, rounded; keep other frames.

    White is 65535, or 2^31 - 1 where values exceed it. Raises ValueError for values beyond these ranges.
    """
    if frame.mode[0] not in "IF":
        return frame
    values = np.asarray(frame).astype(np.float32)
    lowest, highest = values.min(), values.max()
    white = 1 if frame.mode == "F" else 65535 if highest <= 65535 else 2**31 - 1
    if not 0 <= lowest <= highest <= white:  # NaN too
        raise ValueError(
            f"its values reach from {lowest:g} to {highest:g}, and those of a picture from 0 to {white}"
        )
    grey = Image.fromarray((values * 255 / white).round().astype(np.uint8))
    if isinstance(transparent := frame.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def to_uint8(images: Tensor) -> Tensor:
    """Convert values in 0..1 (clamped) to 8 bits, any shape. Quirk kept: 255 x is truncated, not rounded."""
    return (images.detach().float().clamp(0, 1) * 255).to(torch.uint8)


def check_tensor(images: object) -> None:
    """Refuse pictures of PIL, or arrays, where a tensor is needed. Raises ValueError."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"Pictures must be a tensor [batch, 3, height, width] in 0..1, got {type(images).__name__}: "
            "from_pil makes one of PIL pictures, torch.from_numpy of an array."
        )


def check_range(images: Tensor, slack: float = 0.5) -> None:
    """Refuse pictures or masks whose values are clearly not in 0..1: they would look white, or washed out.

    slack: how far beyond 0..1 they may be: resizing overshoots a little, and autoencoders more.

    Raises ValueError.
    """
    check_tensor(images)
    if not images.is_floating_point():
        raise ValueError(f"Pictures hold numbers in 0..1, got {images.dtype}: use images.float() / 255.")
    check_not_meta(images, "These pictures are")
    if not images.numel():
        return  # who needs a shape checks it
    low, high = (float(bound) for bound in images.detach().aminmax())
    if not (isfinite(low) and isfinite(high)):
        raise ValueError(
            "A picture or a mask holds values that are not finite numbers (NaN or inf): what made it went "
            "wrong."
        )
    if low < -slack or high > 1 + slack:
        if low >= -slack:
            advice = "divide by 255"
        else:
            within = low >= -1 - slack and high <= 1 + slack
            advice = "use (images + 1) / 2" if within else "undo their normalisation"
        raise ValueError(f"Pictures hold values in 0..1, got {low:.3g} to {high:.3g}: {advice}.")


def to_pil(images: Tensor) -> list[Image.Image]:
    """Convert pictures [B, 3, H, W] or masks [B, 1, H, W] in 0..1 to PIL pictures, RGB or L.

    Values beyond 0..1 are clamped. Raises ValueError for other shapes, for values that are not finite, which
    8 bits would hide, and for those that are clearly in 0..255.
    """
    check_range(images, WILDEST)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"Pictures must be [batch, 1 or 3, height, width], got {list(images.shape)}.")
    arrays = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array) for array in arrays]


def from_pil(pictures: Image.Image | Sequence[Image.Image]) -> Tensor:
    """Convert PIL pictures, one or several of one size, all RGB or all L, to a tensor [B, 3 or 1, H, W] in
    0..1.

    Raises ValueError for what are no pictures, other modes, and several sizes or modes.
    """
    several = list(pictures) if isinstance(pictures, Sequence) else [pictures]
    if not several or not all(isinstance(picture, Image.Image) for picture in several):
        raise ValueError(f"from_pil takes a PIL picture or a list of them, got {pictures!r:.80}.")
    kinds = {(picture.mode, picture.size) for picture in several}
    if len(kinds) > 1 or several[0].mode not in ("RGB", "L"):
        found = ", ".join(f"{mode} {width}x{height}" for mode, (width, height) in sorted(kinds)[:4])
        raise ValueError(
            f"from_pil takes pictures of one size, all RGB or all L, got {found}: use convert and resize."
        )
    arrays = np.stack([np.asarray(picture) for picture in several])
    if arrays.ndim == 3:
        arrays = arrays[..., None]
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 255


def resize(images: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Resize pictures or masks [B, C, H, W] in 0..1 to [B, C, height, width]; the aspect ratio is not kept.

    mode: a key of RESAMPLING.
    """
    return from_pil([picture.resize((width, height), RESAMPLING[mode]) for picture in to_pil(images)]).to(
        images
    )


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """Prepare pictures for CLIP, [B, 3, size, size] in 0..1, as `crop_square` does."""
    return from_pil([crop_square(picture, size) for picture in to_pil(images)]).to(images)


def crop_square(picture: Image.Image, size: int) -> Image.Image:
    """Resize the shortest edge to `size` and cut out the middle."""
    width, height = (size * side // min(picture.size) for side in picture.size)
    if width * height > MOST_PIXELS:  # long and thin: only the middle is enlarged
        return ImageOps.fit(picture, (size, size), RESAMPLING["bicubic"])
    left, top = (width - size) // 2, (height - size) // 2
    box = (left, top, left + size, top + size)
    return picture.resize((width, height), RESAMPLING["bicubic"]).crop(box)
