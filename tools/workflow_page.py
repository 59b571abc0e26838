"""Write workflows/README.md, every workflow with its picture: `python -m tools.workflow_page`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools.lay_out_workflows import WORKFLOWS, name_twin

NEEDS_COMFYUI = re.compile("^(ksampler-|official-ddim|real-seecoder)")
HEAD = """# Workflows

In ComfyUI the first eighteen stand under *Templates → versatile-diffusion*; drag any other `.json` file
onto the canvas. Scripts take the twin in `api/`:
`python run_workflow.py workflows/api/NAME.json --output pictures`. The pictures were made by the small model
that comes with the pack. All run at the first click but those of *With the real files* and
*More with the real files*, which say what they need.

This page is written by `python -m tools.workflow_page`.
"""
MORE = {
    "One picture, more control": (
        "image-variation-fidelity",
        "bipartite-variations",
        "hires-pass",
        "best-of-n",
        "guidance-options",
        "few-steps",
        "negative-picture",
    ),
    "Several contexts": (
        "triple-context",
        "subject",
        "guidance-per-context",
        "prompt-weights",
        "text-difference",
        "brain-decoding",
    ),
    "Words": ("quick-start", "text-variation", "i2t2i", "ranked-captions", "diverse-captions"),
    "How it works": ("explain",),
    "Prompt-Free Diffusion": ("seecoder-two-references", "seecoder-reference-and-text"),
    "With ComfyUI's own nodes": (
        "official-ddim",
        "ksampler-text-to-image",
        "ksampler-image-variation",
        "ksampler-img2img",
        "ksampler-inpaint",
        "ksampler-areas",
        "ksampler-text-edit",
        "ksampler-seecoder-frames",
        "ksampler-seecoder-inpaint",
    ),
    "More with the real files": (
        "ksampler-controlnet",
        "ksampler-pfd-canny",
        "ksampler-pfd-openpose",
        "ksampler-pfd-anime",
    ),
}


def list_groups() -> dict[str, list[Path]]:
    """List the canvas files by the headings of the page."""
    groups = {
        "To begin with": sorted(WORKFLOWS.glob("[0-9]*.json")),
        "With the real files": sorted(WORKFLOWS.glob("real-*.json")),
    }
    return groups | {
        title: [WORKFLOWS / "more" / f"{name}.json" for name in names] for title, names in MORE.items()
    }


def read_note(path: Path) -> tuple[str, str]:
    """Read what a workflow is and does from the note on its canvas: its title and the rest of the first
    paragraph."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    (note,) = (node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    title, text = re.match(r"\*\*(.+?)\*\*,? *(.*)", note.split("\n\n")[0], re.S).groups()
    return title.rstrip("."), (text[:1].upper() + text[1:]).replace("\n", " ")


def write_row(path: Path) -> str:
    """Write the row of one workflow."""
    title, text = read_note(path)
    twin, link = name_twin(path), path.relative_to(WORKFLOWS).as_posix()
    where = "in ComfyUI" if NEEDS_COMFYUI.match(twin.stem) else "in ComfyUI and without it"
    card = path.with_suffix(".jpg")
    picture = f"![{twin.stem}]({card.relative_to(WORKFLOWS).as_posix()})" if card.exists() else ""
    return (
        f"| {picture} | **{title}**<br>{text}<br>[{path.name}]({link}) · [API](api/{twin.name}) · runs "
        f"{where} |"
    )


def write_page() -> str:
    """Write the whole page."""
    parts = [HEAD]
    for title, paths in list_groups().items():
        parts.append(f"## {title}\n\n| | |\n|---|---|\n" + "\n".join(map(write_row, paths)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (WORKFLOWS / "README.md").write_text(write_page(), encoding="utf-8")
