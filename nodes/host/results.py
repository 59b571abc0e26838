"""Where the results of a workflow go: numbered files below one folder, texts on the terminal and in a file beside the pictures."""

from __future__ import annotations

import re
from pathlib import Path


def numbered(folder: Path, stem: str, ending: str) -> Path:
    """The next free path folder/stem_00001ending, one above the highest number there is; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(stem) + r"_(\d+)" + re.escape(ending))
    taken = [int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    return folder / f"{stem}_{max(taken, default=0) + 1:05d}{ending}"


def outside(prefix: str) -> bool:
    """Whether a file name prefix would leave the output folder, on any system."""
    parts = re.split(r"[/\\]", prefix)
    return "\0" in prefix or ".." in parts or parts[0] == "" and len(parts) > 1 or bool(re.match("[A-Za-z]:", prefix))


def write_texts(title: str, texts: list[str], output: Path) -> None:
    """Prints the texts of a node and writes them to one file; prints its path too."""
    path = numbered(output, re.sub(r"[^\w-]+", "-", title).strip("-")[:100] or "text", ".txt")
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(*texts, path, sep="\n", flush=True)
