"""Show what a workflow made: paths on stdout, texts on stdout and in a file beside the pictures."""

from __future__ import annotations

import re
from pathlib import Path

from vd_core.files import save_numbered, shorten_name


def write_texts(title: str, texts: list[str], output: Path) -> None:
    """Prints the texts of a node and writes them to one file; prints its path too."""
    print(*texts, sep="\n", flush=True)  # first: whatever becomes of the file, they can be read
    stem = shorten_name(re.sub(r"[^\w-]+", "-", title).strip("-")) or "text"
    text = "".join(f"{text}\n" for text in texts).encode("utf-8", "replace")
    print(save_numbered(output, stem, ".txt", lambda file: file.write(text)), flush=True)
