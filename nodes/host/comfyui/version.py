"""Which ComfyUI the pack is tested with. What a core can do is never read from its number, only this sentence
is."""

from __future__ import annotations

import logging

OLDEST_TESTED = "0.3.64"  # as requires-comfyui in pyproject.toml


def parse_version(version: str) -> list[int]:
    """Read a version such as "0.3.64" as numbers that can be compared; letters end it."""
    parts = []
    for part in version.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return parts


def read_version() -> str:
    """Read the version of the ComfyUI that runs; "0" for those that are too old to have one."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "0"
    return __version__


def warn_of_old_core() -> None:
    """Log one sentence where this ComfyUI is older than any that the pack is tested with."""
    version = read_version()
    if parse_version(version) < parse_version(OLDEST_TESTED):
        logging.warning(
            "Versatile Diffusion is tested with ComfyUI %s and later, this is %s: update ComfyUI if a node "
            "of the pack fails.",
            OLDEST_TESTED,
            version,
        )


def explain_missing(error: ImportError) -> ImportError:
    """Say in one sentence that this ComfyUI lacks something that the pack cannot do without."""
    lacks = str(error).split(" (")[0]
    return ImportError(
        f"Versatile Diffusion needs ComfyUI {OLDEST_TESTED} or later, this is {read_version()}: update "
        f"ComfyUI ({lacks})."
    )
