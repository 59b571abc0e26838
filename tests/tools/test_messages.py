"""Sentences that refuse: all are listed in docs/messages.md, whole, and said once in each host."""

import ast
import re
from collections import Counter

import pytest

from tools.messages import FOLDERS, OTHERS, PAGE, PASSED_ON, ROOT, SENTENCES, write_page


def test_they_are_many_and_all_are_known():
    assert len(SENTENCES) > 300
    assert {text for _, text in OTHERS} <= PASSED_ON, OTHERS


def test_the_page_lists_them():
    assert PAGE.read_text(encoding="utf-8") == write_page(), "run: python -m tools.messages"


@pytest.mark.parametrize("said", SENTENCES, ids=[f"{said.file}:{said.line}" for said in SENTENCES])
def test_a_sentence_is_whole(said):
    text = said.text
    if not said.is_reason:
        assert text.endswith((".", "?", "{}")), text
        assert (
            text[0] in '{[“"'
            or text[0].isupper()
            or text[0].isdigit()
            or re.match(r"[a-z]+(_[a-z]+)*\b|--", text)
        ), text
        assert len(text.replace("{}", "").split()) >= 3, text
    assert "\n" not in text and "  " not in text and "!" not in text and not text.endswith(".."), text
    assert not re.search(
        r"\b(Traceback|traceback|[Ee]xception|None|NoneType|self\.|__\w+__|dict|tuple|kwargs)\b", text
    ), text


def inner_classes() -> set[str]:
    """Return the classes with names of several words that are neither nodes nor of the papers."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    ]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    nodes = {
        node.name
        for node in classes
        if any(isinstance(part, ast.FunctionDef) and part.name == "INPUT_TYPES" for part in node.body)
    }
    return {node.name for node in classes if re.search("[a-z0-9][A-Z]", node.name)} - nodes - {"SeeCoder"}


def test_none_names_what_only_the_code_knows():
    inner = inner_classes()
    assert len(inner) > 50
    assert not [said for said in SENTENCES if set(re.findall(r"\w+", said.text)) & inner]


def test_none_is_said_in_more_places_than_there_are_hosts():
    twice = {
        text: count
        for text, count in Counter(said.text for said in SENTENCES).items()
        if count > 2 and len(text) > 60
    }
    assert not twice, [said for said in SENTENCES if said.text in twice]
