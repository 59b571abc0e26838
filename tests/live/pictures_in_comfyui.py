"""Inside ComfyUI: picture files as core's LoadImage reads them, and as ours does.

usage: pictures_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
Prints JSON: whether core reads pictures with ffmpeg, and {file name: largest difference of picture and mask,
or what core says, or how the shapes differ}.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

from pack_in_comfyui import part, start, values
from picture_files import PictureFile, picture_files


def measure(file: PictureFile, folder: Path) -> float | str:
    """One file through both."""
    import nodes as core

    (folder / file.name).write_bytes(file.content)
    images, masks = part("vd_core.pictures").read_frames(folder / file.name, file.name)
    try:
        expected_images, expected_masks = values(core.LoadImage, file.name)
    except Exception as error:  # whatever core does with a file that it cannot read
        return f"{type(error).__name__}: {error}"
    images = images.movedim(1, -1)
    if images.shape != expected_images.shape or masks.shape != expected_masks.shape:
        return f"{images.shape}, {masks.shape} and not {expected_images.shape}, {expected_masks.shape}"
    return max(float((images - expected_images).abs().max()), float((masks - expected_masks).abs().max()))


if __name__ == "__main__":
    start(sys.argv[1:])
    import folder_paths

    import nodes as core

    folder = Path(folder_paths.get_input_directory())
    folder.mkdir(exist_ok=True)
    reads_with_ffmpeg = "VideoFromFile" in inspect.getsource(core.LoadImage)
    print(json.dumps((reads_with_ffmpeg, {file.name: measure(file, folder) for file in picture_files()})))
