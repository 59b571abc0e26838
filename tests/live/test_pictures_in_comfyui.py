"""Picture files read by ComfyUI's LoadImage and by ours: equal to the last bit where core reads them with
Pillow.

Since 2026 core reads them with ffmpeg, which rounds the colours of JPEG otherwise and widens palettes and
greys through YUV.
"""

import pytest
from picture_files import picture_files

pytestmark = pytest.mark.comfyui

TRUE_COLOURS = ("rgb.png", "optimized.png", "cutout.png", "cutout_palette.png", "animated.png", "turned.png")
PHOTOS = ("photo.jpg", "photo.jfif", "photo.JPE", "progressive.jpg", "turned.jpg", "bad_exif.jpg")


def test_at_least_thirty_files_are_read_as_core_reads_them(inside):
    (reads_with_ffmpeg, differences), _ = inside("pictures_in_comfyui.py")
    if reads_with_ffmpeg:
        assert {name: differences[name] for name in TRUE_COLOURS if differences[name] != 0} == {}
        assert max(differences[name] for name in PHOTOS) < 2.01 / 255
        return
    same = [file.name for file in picture_files() if file.equals_core]
    assert len(same) >= 30
    assert {name: differences[name] for name in same if differences[name] != 0} == {}
