"""workflows/README.md: every workflow with its picture, what it does and where it runs, written from the workflow files themselves.

After a change of a workflow: python -m tests.tools.test_workflow_page > workflows/README.md
"""

import json
import re
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NEEDS_COMFYUI = re.compile("^(ksampler-|official-ddim)")
HEAD = """# Workflows

Drag a `.json` file onto the ComfyUI canvas. Its twin in `api/` is for scripts:
`python run_workflow.py workflows/api/NAME.json --output pictures`. The pictures were made by the small model that comes with the pack, on a
CPU; workflows that need other files say so, and the dialog at their start says where these are.

This page is written by `python -m tests.tools.test_workflow_page > workflows/README.md`.
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


def test_the_page_is_what_the_files_say():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == page(), "run: python -m tests.tools.test_workflow_page > workflows/README.md"


def test_every_workflow_stands_in_one_group():
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(path.stem for path in FOLDER.glob("*.json"))


def test_every_workflow_has_a_picture():
    for path in FOLDER.glob("*.json"):
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.size == (256, 256), path


if __name__ == "__main__":
    print(page(), end="")
