"""Read workflow files: JSON, and the PNG files that ComfyUI saves with their workflow inside."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd_core.foreign import printable

from .errors import WorkflowError

PNG = b"\x89PNG\r\n\x1a\n"
LARGEST = 16 << 20  # bytes of one text; as Python's objects it takes many times that


def read(path: Path) -> dict:
    """Read a workflow file: JSON in API or canvas format, the body of a POST to /prompt, or a PNG."""
    try:
        data: Any = read_png(path) if is_png(path) else json.loads(read_text(path))
    except WorkflowError:
        raise
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"{path} is not valid JSON: {printable(str(error))}.") from error
    if isinstance(data, dict) and is_prompt(data.get("prompt")):
        data = data["prompt"]
    if not (is_canvas(data) or is_prompt(data)):
        raise WorkflowError(
            f"{path} is not a ComfyUI workflow: it holds neither an API-format graph nor a canvas with nodes "
            "and links."
        )
    return data


def read_text(path: Path) -> str:
    """Return the text of a file. Raises WorkflowError for one that is too large for a workflow."""
    with path.open("rb") as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise WorkflowError(f"{path} has more than {LARGEST >> 20} MB, which no workflow has.")
    return text.decode("utf-8-sig")


def is_canvas(data) -> bool:
    """Tell whether JSON is a canvas, the format that ComfyUI's page saves."""
    return (
        isinstance(data, dict) and isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list)
    )


def is_prompt(data) -> bool:
    """Tell whether JSON is a prompt, the API format."""
    nodes = list(data.values()) if isinstance(data, dict) else []
    return bool(nodes) and all(
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
        for node in nodes
    )


def is_png(path: Path) -> bool:
    """Tell whether a file is a PNG, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(PNG)) == PNG


def read_png(path: Path) -> object:
    """Return the prompt in a PNG, else its canvas. Raises WorkflowError for a picture without either."""
    texts = dict(read_text_chunks(path))
    for name in ("prompt", "workflow"):
        if name in texts:
            return json.loads(texts[name])
    raise WorkflowError(f"{path} carries no workflow, as pictures do that ComfyUI or run_workflow.py saved.")


def read_text_chunks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each text in a PNG that is not compressed (tEXt, iTXt)."""
    with path.open("rb") as file:
        file.seek(len(PNG))
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind not in (b"tEXt", b"iTXt"):
                file.seek(size + 4, 1)  # the checksum too
                continue
            if size > LARGEST:
                raise WorkflowError(
                    f"{path} has more than {LARGEST >> 20} MB of text, which no workflow has."
                )
            name, _, text = file.read(size).partition(b"\0")
            file.seek(4, 1)
            if kind == b"iTXt":
                compressed, rest = text[:1], text[2:].split(b"\0", 2)
                if compressed != b"\0" or len(rest) < 3:
                    continue
                text = rest[2]
            yield name.decode("latin-1"), text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
