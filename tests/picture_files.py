"""One picture in all the ways that people's files hold it, with what every door must read in it."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, features

WIDTH, HEIGHT = 24, 16


@dataclass(frozen=True)
class PictureFile:
    """A file and what is in it.

    expected: uint8 [H, W, 3], its first frame on white. atol: how far lossy formats may be off.
    alpha: uint8 [H, W] where the canvas gets a mask. frames: how many the canvas gets.
    colors: uint8 [H, W, 3] under the alpha, where they differ from `expected`.
    equals_core: False where ComfyUI 0.3.64 reads it wrongly or not at all.
    """

    name: str
    content: bytes
    expected: np.ndarray
    atol: int = 0
    alpha: np.ndarray | None = None
    colors: np.ndarray | None = None
    frames: int = 1
    equals_core: bool = True


def pixels(seed: int = 0) -> np.ndarray:
    """Return a smooth picture, uint8 [16, 24, 3]; another seed gives other colours."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 10, y * 15, (x + y) * 6 + 20 * seed], axis=-1).astype(np.uint8)


def coverage() -> np.ndarray:
    """Return an alpha channel, uint8 [16, 24]: left transparent, half in the middle, right opaque."""
    return np.repeat(np.array([0, 128, 255], np.uint8), WIDTH // 3)[None].repeat(HEIGHT, axis=0)


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours on white, by the formula of alpha compositing, rounded."""
    share = alpha[..., None].astype(float) / 255
    return np.round(colors * share + 255 * (1 - share)).astype(np.uint8)


def encode(picture: Image.Image, format: str, **options) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, format=format, **options)
    return file.getvalue()


def png(
    width: int, height: int, depth: int, color_type: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """Return a PNG file written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@cache
def picture_files() -> tuple[PictureFile, ...]:
    """All of them, those that need what this build of Pillow lacks left out."""
    rgb, alpha = pixels(), coverage()
    grey, picture = rgb[..., 0], Image.fromarray(rgb)
    grey_rgb = grey[..., None].repeat(3, axis=-1)
    cut = Image.fromarray(np.dstack([rgb, alpha]))
    white = on_white(rgb, alpha)
    pale = rgb // 4 + 96
    grey16 = grey.astype(np.uint16) * 257
    palette = picture.quantize(16)
    palette_rgb = np.asarray(palette.convert("RGB"))
    hole = np.where(np.asarray(palette) == np.asarray(palette)[0, 0], 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter, clockwise
    on_its_side = Image.fromarray(np.rot90(rgb).copy())

    def animated(format: str, count: int = 3, **options) -> bytes:
        first, *others = [Image.fromarray(pixels(seed)) for seed in range(count)]
        return encode(first, format, save_all=True, append_images=others, **options)

    binary = np.where(grey > 100, 255, 0).astype(np.uint8)
    lossy = {"quality": 95, "subsampling": 0}
    top_row = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey16)
    rows16 = b"".join(b"\0" + row.tobytes() for row in (rgb.astype(np.uint16) * 257).astype(">u2"))

    def tiff(array: np.ndarray, **options) -> bytes:
        return encode(Image.fromarray(array), "TIFF", **options)

    files = [
        PictureFile("rgb.png", encode(picture, "PNG"), rgb),
        PictureFile("optimized.png", encode(picture, "PNG", optimize=True), rgb),
        PictureFile("grey.png", encode(Image.fromarray(grey), "PNG"), grey_rgb),
        PictureFile(
            "binary.png",
            encode(Image.fromarray(binary).convert("1"), "PNG"),
            binary[..., None].repeat(3, axis=-1),
        ),
        PictureFile("palette.png", encode(palette, "PNG"), palette_rgb),
        PictureFile("grey16.png", png(WIDTH, HEIGHT, 16, 0, top_row), grey_rgb, equals_core=False),
        PictureFile("rgb16.png", png(WIDTH, HEIGHT, 16, 2, rows16), rgb),
        PictureFile("cutout.png", encode(cut, "PNG"), white, 1, alpha, rgb),
        PictureFile(
            "cutout_grey.png",
            encode(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"),
            on_white(grey_rgb, alpha),
            1,
            alpha,
            grey_rgb,
        ),
        PictureFile(
            "cutout_palette.png",
            encode(palette, "PNG", transparency=int(np.asarray(palette)[0, 0])),
            on_white(palette_rgb, hole),
            0,
            hole,
            palette_rgb,
        ),
        # A colour that counts as transparent: ComfyUI makes no mask of it.
        PictureFile(
            "key.png",
            png(
                WIDTH,
                HEIGHT,
                8,
                2,
                b"".join(b"\0" + row.tobytes() for row in rgb),
                (b"tRNS", struct.pack(">3H", *rgb[3, 5])),
            ),
            np.where((rgb == rgb[3, 5]).all(-1, keepdims=True), 255, rgb),
            colors=rgb,
        ),
        PictureFile(
            "grey16_key.png",
            png(WIDTH, HEIGHT, 16, 0, top_row, (b"tRNS", struct.pack(">H", int(grey16[3, 5])))),
            np.where((grey == grey[3, 5])[..., None], 255, grey_rgb),
            alpha=np.where(grey == grey[3, 5], 0, 255).astype(np.uint8),
            colors=grey_rgb,
            equals_core=False,
        ),
        PictureFile("animated.png", animated("PNG"), rgb, frames=3),
        PictureFile("turned.png", encode(on_its_side, "PNG", exif=exif), rgb),
        PictureFile("photo.jpg", encode(picture, "JPEG", **lossy), rgb, 16),
        PictureFile("photo.jfif", encode(picture, "JPEG", **lossy), rgb, 16),
        PictureFile("photo.JPE", encode(picture, "JPEG", **lossy), rgb, 16),
        PictureFile("grey.jpeg", encode(Image.fromarray(grey), "JPEG", quality=95), grey_rgb, 12),
        PictureFile("progressive.jpg", encode(picture, "JPEG", progressive=True, **lossy), rgb, 16),
        PictureFile("cmyk.jpg", encode(picture.convert("CMYK"), "JPEG", **lossy), rgb, 16),
        PictureFile("turned.jpg", encode(on_its_side, "JPEG", exif=exif, **lossy), rgb, 16),
        PictureFile(
            "bad_exif.jpg", encode(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f", **lossy), rgb, 16
        ),
        PictureFile("stereo.mpo", animated("MPO", 2, quality=95), rgb, 16),
        PictureFile("still.gif", encode(palette, "GIF"), palette_rgb),
        PictureFile("animated.gif", animated("GIF"), rgb, 12, frames=3),
        PictureFile("rgb.bmp", encode(picture, "BMP"), rgb),
        PictureFile("rgb.dib", encode(picture, "DIB"), rgb),
        PictureFile("rgb.tiff", encode(picture, "TIFF"), rgb),
        PictureFile("packed.TIF", encode(picture, "TIFF", compression="tiff_adobe_deflate"), rgb),
        PictureFile("pages.tif", animated("TIFF"), rgb, frames=3),
        PictureFile("grey16.tif", tiff(grey16), grey_rgb, equals_core=False),
        PictureFile(
            "grey16_big_endian.tif",
            encode(Image.fromarray(grey16.astype(">u2")), "TIFF"),
            grey_rgb,
            equals_core=False,
        ),
        PictureFile("grey32.tif", tiff(grey.astype(np.int32) * 257), grey_rgb, 0, equals_core=False),
        PictureFile(
            "grey31.tif", tiff((grey / 255 * (2**31 - 1)).astype(np.int32)), grey_rgb, 0, equals_core=False
        ),
        PictureFile("float.tif", tiff(grey.astype(np.float32) / 255), grey_rgb, 0, equals_core=False),
        PictureFile("cmyk.tif", encode(picture.convert("CMYK"), "TIFF"), rgb),
        PictureFile("lab.tif", encode(lab(Image.fromarray(pale)), "TIFF"), pale, 3, equals_core=False),
        PictureFile("cutout.tif", encode(cut, "TIFF"), white, 1, alpha, rgb),
        PictureFile("photo.webp", encode(picture, "WEBP", lossless=True), rgb),
        PictureFile("cutout.webp", encode(cut, "WEBP", lossless=True, exact=True), white, 1, alpha, rgb),
        PictureFile("animated.webp", animated("WEBP", lossless=True), rgb, frames=3),
        PictureFile("webp_named.png", encode(picture, "WEBP", lossless=True), rgb),
        PictureFile("png_named.jpg", encode(picture, "PNG"), rgb),
        PictureFile(
            "cutout.ico",
            encode(cut.crop((0, 0, 16, 16)), "ICO", sizes=[(16, 16)]),
            white[:, :16],
            1,
            alpha[:, :16],
            rgb[:, :16],
        ),
        PictureFile("rgb.tga", encode(picture, "TGA"), rgb),
        PictureFile("rgb.ppm", encode(picture, "PPM"), rgb),
        PictureFile("grey.pgm", encode(Image.fromarray(grey), "PPM"), grey_rgb),
        PictureFile("rgb.pcx", encode(picture, "PCX"), rgb),
        PictureFile("rgb.sgi", encode(picture, "SGI"), rgb),
        PictureFile("rgb.dds", encode(picture, "DDS"), rgb),
    ]
    if features.check("jpg_2000"):
        files.append(PictureFile("rgb.jp2", encode(picture, "JPEG2000"), rgb))
    if features.check("avif"):
        files.append(PictureFile("photo.avif", encode(picture, "AVIF", quality=95), rgb, 16))
    return tuple(files)


def lab(picture: Image.Image) -> Image.Image:
    """Return the picture in CIE Lab, through littleCMS."""
    from PIL import ImageCms

    srgb, target = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(picture, srgb, target, outputMode="LAB")
