"""Models by their name on the Hugging Face Hub, "OWNER/NAME": found in the local cache. Nothing is downloaded
here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from .read import WEIGHT_NAMES

NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Component:
    """A folder of a diffusers pipeline: the parts it holds, and its bytes in float32 for Versatile Diffusion
    v1.0.
    """

    folder: str
    parts: tuple[str, ...]
    bytes: int


COMPONENTS = (
    Component(
        "image_unet", ("diffuser.time_embed", "diffuser.data.image", "diffuser.context.image"), 3_438_083_856
    ),
    Component(
        "text_unet", ("diffuser.time_embed", "diffuser.data.text", "diffuser.context.text"), 6_835_393_792
    ),
    Component("vae", ("image_vae",), 334_615_452),
    Component("text_encoder", ("clip_text",), 494_601_216),
    Component("image_encoder", ("clip_vision",), 1_215_864_832),
)


def is_name(path: str | Path) -> bool:
    """Tell whether a path is a model's name on the hub: OWNER/NAME, and no file or folder here."""
    return isinstance(path, str) and NAME.fullmatch(path) is not None and not Path(path).exists()


def find_snapshot(name: str, parts: Collection[str] | None = None) -> Path:
    """Find the diffusers folder of a model in the local Hugging Face cache.

    name: OWNER/NAME. parts: names as in `list_parts`; only the folders that hold them must be there. None =
          all.

    Raises FileNotFoundError that lists what is missing, with sizes, and how to fetch it.
    """
    found = {component: find_cached_weights(name, component.folder) for component in COMPONENTS}
    needed = [component for component in COMPONENTS if parts is None or set(component.parts) & set(parts)]
    missing = [component for component in needed if found[component] is None]
    if missing:
        folders = ", ".join(f"{component.folder}/ ({component.bytes:,} bytes)" for component in missing)
        raise FileNotFoundError(
            f"{name} is no file or folder here, and of the model with that name the Hugging Face cache lacks "
            f"the weights in {folders}; together {sum(component.bytes for component in missing):,} bytes in "
            "float32. `versatile-diffusion download` fetches them."
        )
    return next(path for path in found.values() if path is not None).parents[1]


def find_cached_weights(name: str, folder: str) -> Path | None:
    """Find the weights of one folder of a pipeline in the cache; for those in several files, their index."""
    names = [*WEIGHT_NAMES, *(f"{weights}.index.json" for weights in WEIGHT_NAMES)]
    paths = (try_to_load_from_cache(name, f"{folder}/{file}") for file in names)
    return next((Path(path) for path in paths if isinstance(path, str) and Path(path).is_file()), None)
