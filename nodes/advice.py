"""Warnings for inputs that are allowed but do not suit the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..vd_core.config import VDConfig, recommend_settings

LARGER = 2.0  # times the trained side; a hires pass draws at twice the size
STRONGER = 2.5  # times the recommended guidance scale
SHORTEST = 3  # letters of a word that is worth a sentence


def advise_settings(
    config: VDConfig, data: str, shape: Sequence[int], cfg: float | Sequence[float] | None
) -> str:
    """Say in one sentence which of size and guidance scale do not suit a model; "" where both do.

    data:  the kind of output.
    shape: of the latents, [B, C, h, w].
    cfg:   one scale or one per context; None where it is unknown, or corrected.
    """
    side, _, scale = recommend_settings(config)
    faults = []
    if config.diffuser.data[data].layers == "2d":
        factor = 2 ** (len(config.image_vae.channel_mult) - 1)
        height, width = (cells * factor for cells in shape[-2:])
        if max(height, width) > LARGER * side or max(height, width) < side / LARGER:
            faults.append(f"it was trained on pictures of {side}x{side} pixels and draws {width}x{height}")
    strongest = max(cfg) if isinstance(cfg, Sequence) else cfg
    if strongest is not None and strongest > STRONGER * scale:
        faults.append(f"its guidance scale is about {scale:g}, and cfg is {strongest:g}")
    return (
        f"This model will not draw well: {'; '.join(faults)}. Load Versatile Diffusion gives fitting values."
        if faults
        else ""
    )


def advise_words(text: str, count_tokens: Callable[[str], int]) -> str:
    """Say in one sentence which words of a prompt a CLIP can only spell in short pieces; "" for none.

    count_tokens: a word -> how many tokens it takes.
    """
    words = dict.fromkeys(word for word in re.findall(r"[a-z0-9]+", text.lower()) if len(word) >= SHORTEST)
    unknown = [word for word in words if 2 * count_tokens(word) >= len(word)]
    if not unknown:
        return ""
    return (
        f"This model has no word for {', '.join(unknown[:8])}, so it will mean little. The embedded model "
        "knows 256 emoji in five styles, as in “red apple, 3d style”."
    )
