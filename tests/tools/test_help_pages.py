"""Help pages in other languages are what their locales say."""

import json
import re

from tools.help_pages import DOCS, HEADINGS, ROOT, write_pages


def test_pages_are_those_of_the_locales():
    assert {path: path.read_text(encoding="utf-8") for path in DOCS.glob("*/*.md")} == write_pages(), (
        "run: python -m tools.help_pages"
    )


def test_every_locale_has_pages_for_all_nodes():
    languages = {path.name for path in (ROOT / "locales").iterdir()}
    assert languages == {*HEADINGS, "en"}
    nodes = {path.stem for path in DOCS.glob("*.md")}
    assert set(write_pages()) == {DOCS / node / f"{language}.md" for node in nodes for language in HEADINGS}


def test_pages_explain_every_input():
    for path, text in write_pages().items():
        entry = json.loads((ROOT / "locales" / path.stem / "nodeDefs.json").read_text(encoding="utf-8"))[
            path.parent.name
        ]
        explained = [name for name, value in entry["inputs"].items() if "tooltip" in value]
        assert re.findall(r"^- .+ \(`(\w+)`\): .", text, re.M) == explained, path
