"""Help pages in the languages of the locales, from the translated names and tooltips: `python -m
tools.help_pages`.

Writes web/docs/NODE/LANGUAGE.md for every node and every locale but English, whose pages, web/docs/NODE.md,
are written by hand and are longer. ComfyUI's page shows the one in its own language and falls back to
English.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "web" / "docs"
HEADINGS = {  # inputs, outputs, the workflows that show the node
    "ja": ("入力", "出力", "ワークフロー"),
    "ko": ("입력", "출력", "워크플로"),
    "zh": ("输入", "输出", "工作流"),
}


def write_page(node: str, texts: dict, language: str) -> str:
    """Write the help of one node from its entry in a nodeDefs.json."""
    inputs, outputs, workflows = HEADINGS[language]
    lines = [f"# {texts['display_name']}", "", texts["description"], "", f"## {inputs}", ""]
    lines += [
        f"- {entry['name']} (`{key}`): {entry['tooltip']}"
        for key, entry in texts["inputs"].items()
        if "tooltip" in entry
    ]
    if "outputs" in texts:
        lines += ["", f"## {outputs}", ""]
        lines += [f"- {name_output(entry)}{entry['tooltip']}" for entry in texts["outputs"].values()]
    english = (DOCS / f"{node}.md").read_text(encoding="utf-8")
    if shown := re.search("^Workflows: (.*)", english, re.M):
        lines += ["", f"{workflows}: {shown[1]}"]
    return "\n".join(lines) + "\n"


def name_output(output: dict) -> str:
    """Return the name of an output before its description; some have none of their own."""
    return f"{output['name']}: " if "name" in output else ""


def write_pages() -> dict[Path, str]:
    """Write the help pages by their paths."""
    written = {}
    for language in HEADINGS:
        texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        written |= {
            DOCS / node / f"{language}.md": write_page(node, entry, language) for node, entry in texts.items()
        }
    return written


if __name__ == "__main__":
    for path, text in write_pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(write_pages())} pages below {DOCS.relative_to(ROOT)}")
