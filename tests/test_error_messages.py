"""Every sentence that a user can see when something is refused: whole, of some length, and said once in each host."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("nodes", "vd_core", "seecoder", "checkout")
ERRORS = {"ValueError", "FileNotFoundError", "WorkflowError", "OSError", "NotADirectoryError", "Unreachable"}
# Ends of sentences: whoever raises the error that the user sees puts the subject, and the full stop, around them.
PARTS = ("vd_core/config.py", "seecoder/sizes.py", "vd_core/checkpoints/read.py", "seecoder/checkpoints.py")


def text_of(node: ast.expr) -> str | None:
    """The text of a string or f-string, {} for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values)
    return None


def sentences() -> list[tuple[str, str]]:
    """(file:line, text) of every error that is raised with a text."""
    found = []
    for file in [ROOT / "run_workflow.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]:
        name = file.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            error = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in ERRORS and error.args:
                text = text_of(error.args[0])
                if text is not None:
                    found.append((f"{name}:{node.lineno}", text))
    return found


SENTENCES = sentences()


def test_they_are_many():
    assert len(SENTENCES) > 150


@pytest.mark.parametrize(("where", "text"), SENTENCES, ids=[where for where, _ in SENTENCES])
def test_a_sentence_is_whole(where, text):
    if where.split(":")[0] not in PARTS:
        assert text.endswith((".", "?", "{}")), text
    assert "\n" not in text and "  " not in text
    assert len(text.replace("{}", "").split()) >= 3 or text.count("{}") >= 2, text


def test_none_is_said_in_more_places_than_there_are_hosts():
    twice = {text: count for text, count in Counter(text for _, text in SENTENCES).items() if count > 2 and len(text) > 60}
    assert not twice, [(where, text) for where, text in SENTENCES if text in twice]
