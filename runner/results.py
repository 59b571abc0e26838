"""Show what a workflow made: paths on stdout, texts on stdout and in a file beside the pictures."""

from __future__ import annotations

import re
from pathlib import Path

from vd_core.files import numbered, whole


def write_texts(title: str, texts: list[str], output: Path) -> None:
    """Prints the texts of a node and writes them to one file; prints its path too."""
    print(*texts, sep="\n", flush=True)  # first: whatever becomes of the file, they can be read
    path = numbered(output, re.sub(r"[^\w-]+", "-", title).strip("-")[:100] or "text", ".txt")
    with whole(path) as part:
        part.write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(path, flush=True)
