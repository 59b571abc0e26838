"""Letters in pictures: the font that comes with Pillow, and texts in lines that fit."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont  # the latter where Pillow has no FreeType


@lru_cache
def load_font(size: int) -> Font:
    """Load Pillow's own font, `size` pixels high. It has Latin letters only."""
    return ImageFont.load_default(size=size)


def measure_line(letters: Font) -> int:
    """Measure the pixels from one line to the next."""
    left, top, right, bottom = letters.getbbox("Ágjy")
    return round(1.15 * bottom)


def break_lines(text: str, letters: Font, width: float, most: int = 3) -> list[str]:
    """Break a text into at most `most` lines of `width` pixels, between words, and inside words that are too
    long; a text that is cut off ends in three dots. An empty text has no line."""
    lines, line = [], ""
    for word in text.split():
        if line and letters.getlength(f"{line} {word}") > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
        while letters.getlength(line) > width and len(line) > 1:
            fits = max(1, sum(letters.getlength(line[:end]) <= width for end in range(1, len(line))))
            lines.append(line[:fits])
            line = line[fits:]
    lines += [line] if line else []
    if len(lines) > most:
        last = lines[most - 1]
        while last and letters.getlength(f"{last}...") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last}..."]
    return lines
