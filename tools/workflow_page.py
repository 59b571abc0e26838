"""workflows/README.md: every workflow with its picture, what it does and where it runs, written from the workflow files themselves.

After a change of a workflow: python -m tools.workflow_page
"""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
NEEDS_COMFYUI = re.compile("^(ksampler-|official-ddim)")
HEAD = """# Workflows

Drag a `.json` file onto the ComfyUI canvas. Its twin in `api/` is for scripts:
`python run_workflow.py workflows/api/NAME.json --output pictures`. The pictures were made by the small model that comes with the pack, on a
CPU; workflows that need other files say so, and ComfyUI's page lists where
these are, in a dialog or behind “issues found”.

This page is written by `python -m tools.workflow_page`.
"""
GROUPS = {
    "First steps": ("quick-start", "text-to-image", "image-variation", "image-to-text", "text-variation", "dual-context"),
    "One picture, more control": (
        "image-variation-fidelity",
        "inpaint",
        "bipartite-variations",
        "hires-pass",
        "best-of-n",
        "guidance-options",
        "negative-picture",
        "steer-by-colour",
    ),
    "Several contexts": (
        "triple-context",
        "multi-context",
        "subject",
        "regions",
        "guidance-per-context",
        "prompt-weights",
        "interpolate-pictures",
        "text-difference",
        "brain-decoding",
    ),
    "Words": ("edit-picture-by-words", "i2t2i", "ranked-captions", "diverse-captions"),
    "How it works": ("explain",),
    "Prompt-Free Diffusion": ("seecoder-reference", "seecoder-two-references", "seecoder-reference-and-text"),
    "With ComfyUI's own nodes": ("official-ddim", *(path.stem for path in sorted(FOLDER.glob("ksampler-*.json")))),
}


def about(name: str) -> tuple[str, str]:
    """What a workflow is and does, from the note on its canvas: its title and the first paragraph."""
    nodes = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    (note,) = (node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    title, text = re.match(r"\*\*(.+?)\*\*,? *(.*)", note.split("\n\n")[0], re.S).groups()
    return title.rstrip("."), text.replace("\n", " ")


def entry(name: str) -> str:
    """One row of the page."""
    title, text = about(name)
    where = "in ComfyUI" if NEEDS_COMFYUI.match(name) else "in ComfyUI and without it"
    return f"| ![{name}]({name}.jpg) | **{title}**<br>{text}<br>[{name}.json]({name}.json) · [API](api/{name}.json) · runs {where} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n\n| | |\n|---|---|\n" + "\n".join(entry(name) for name in names) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(page(), encoding="utf-8")
