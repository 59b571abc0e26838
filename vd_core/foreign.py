"""Show text that comes from elsewhere: file names, keys, titles in workflow files, answers of servers."""

from __future__ import annotations

import re

# What a terminal obeys instead of showing it: control characters, halves of characters, changes of direction.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST = 200  # characters


def printable(text: str, longest: int = LONGEST, lines: bool = False) -> str:
    """Replace what must not reach a terminal by "?", and cut what is longer than `longest` characters.

    lines: keep line breaks and tabs, as of a text of several lines.
    """
    shown = HIDDEN.sub(lambda hidden: hidden[0] if lines and hidden[0] in "\n\t" else "?", text[:longest])
    return shown if len(text) <= longest else f"{shown}…"


def quote_error(error: BaseException) -> str:
    """Return the first line of what another library's error says, as a part of a sentence; else its type."""
    return printable(next(iter(str(error).splitlines()), "").rstrip(" .")) or type(error).__name__


def escape(name: str) -> str:
    """Escape what cannot be printed in a foreign name, and nothing else, for any file or terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
