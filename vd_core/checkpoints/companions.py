"""The published model comes in several files: find the one of each part beside or around the diffuser's."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from itertools import product
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .load import open_checkpoints
from .published import list_published

# Other names under which the same weights are published or usually saved.
ALSO_NAMED = {
    "kl-f8.pth": ("kl-f8.safetensors", "vae-ft-mse-840000-ema-pruned.safetensors"),
    "model.safetensors": ("clip-vit-large-patch14.safetensors",),
}

# The keys of a diffuser in the layouts of one file: this project's, the official one, the first release's.
DIFFUSER_KEYS = re.compile(r"diffuser\.\w+\.|model\.diffusion_model\.unet_\w+\.")


def find_part(model: Path, part: str, folders: Collection[Path]) -> Path:
    """Find the file of a part of a model: the model's own where it holds the part, else the published one.

    part:    as in `list_parts`.
    folders: searched for the published file, after the model's own folder.

    Raises FileNotFoundError that says which file is wanted, its size, where it is published and where it was
    searched for.
    """
    checkpoints, _ = open_checkpoints(model)
    if part in checkpoints[0].keys:
        return model
    (wanted,) = list_published([part])
    names = (wanted.file, *ALSO_NAMED.get(wanted.file, ()))
    for folder, name in product([model.parent, *folders], names):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(
        f"{model.name} does not hold {part}, and there is no {' or '.join(names)} in "
        f"{', '.join(map(str, folders))}: put it there; it is published as {wanted}."
    )


def may_hold_diffuser(path: Path) -> bool:
    """Tell whether a file may hold Versatile Diffusion's diffuser, without reading weights: for lists that
    users choose from.

    A safetensors file is told by its keys. Other files would have to be read for that, so they are told by
    their names.
    """
    if path.suffix != ".safetensors":
        return bool(re.search(r"vd[-_]|versatile", path.name, re.IGNORECASE))
    try:
        stat = path.stat()
    except OSError:  # a link to nothing
        return False
    return holds_diffuser_keys(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def holds_diffuser_keys(path: Path, changed: int, size: int) -> bool:
    """Tell whether a safetensors file has keys of a diffuser in one of its layouts. changed, size: of the
    file that was looked at."""
    try:
        with safe_open(path, framework="pt") as file:
            return any(DIFFUSER_KEYS.match(key) for key in file.keys())  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError):
        return False
