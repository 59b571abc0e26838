"""One sentence where an input is allowed but does not suit the model, so that nobody wonders about a burnt or empty picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..vd_core.config import VDConfig, recommend_settings

LARGER = 2.0  # times the trained side; a hires pass draws at twice the size
STRONGER = 2.5  # times the recommended guidance scale
SHORTEST = 3  # letters of a word that is worth a sentence


def advise_settings(config: VDConfig, data: str, shape: Sequence[int], cfg: float | None) -> str:
    """Say in one sentence which of size and guidance scale do not suit a model; "" where both do.

    data: the kind of output. shape: of the latents, [B, C, h, w]. cfg: None where it is not known, or corrected.
    """
    side, _, scale = recommend_settings(config)
    faults = []
    if config.diffuser.data[data].layers == "2d":
        factor = 2 ** (len(config.image_vae.channel_mult) - 1)
        height, width = (cells * factor for cells in shape[-2:])
        if max(height, width) > LARGER * side or max(height, width) < side / LARGER:
            faults.append(f"it was trained on pictures of {side}x{side} pixels and draws {width}x{height}")
    if cfg is not None and cfg > STRONGER * scale:
        faults.append(f"its guidance scale is about {scale:g}, and cfg is {cfg:g}")
    return (
        f"This model will not draw well: {' and '.join(faults)}. Load Versatile Diffusion gives fitting values."
        if faults
        else ""
    )


def advise_words(text: str, count_tokens: Callable[[str], int]) -> str:
    """Say in one sentence which words of a prompt a CLIP has to spell letter by letter, so that they mean nothing to it; "" for none.

    count_tokens: a word -> how many tokens it takes.
    """
    words = dict.fromkeys(word for word in re.findall(r"[a-z0-9]+", text.lower()) if len(word) >= SHORTEST)
    unknown = [word for word in words if count_tokens(word) >= len(word)]
    if not unknown:
        return ""
    return (
        f"This model has no word for {', '.join(unknown[:8])}. The embedded model knows 256 emoji in five styles: "
        "prompts like “red apple, 3d style”."
    )
