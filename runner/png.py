"""Read the workflow that ComfyUI puts into the PNG files it saves."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 64 << 20  # bytes of one text


def is_png(path: Path) -> bool:
    """Tell whether a file is a PNG, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def read_workflow(path: Path) -> object:
    """Return the prompt in a PNG, else its canvas. Raises ValueError for a picture without either."""
    texts = dict(text_chunks(path))
    for name in ("prompt", "workflow"):
        if name in texts:
            return json.loads(texts[name])
    raise ValueError("this picture carries no workflow, as one does that ComfyUI or run_workflow.py saved")


def text_chunks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each text in a PNG that is not compressed (tEXt, iTXt)."""
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind not in (b"tEXt", b"iTXt") or size > LARGEST:
                file.seek(size + 4, 1)  # the checksum too
                continue
            name, _, text = file.read(size).partition(b"\0")
            file.seek(4, 1)
            if kind == b"iTXt":
                compressed, rest = text[:1], text[2:].split(b"\0", 2)
                if compressed != b"\0" or len(rest) < 3:
                    continue
                text = rest[2]
            yield name.decode("latin-1"), text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
