"""Every sentence that a user can see when something is refused: listed in docs/messages.md, whole, and said
once in each host.

python -m tools.messages
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "messages.md"
FOLDERS = ("nodes", "vd_core", "seecoder", "runner")
# caught, or said in another sentence
UNSEEN = {
    "KeyError",
    "Unreadable",
    "ConnectionError",
    "TimeoutError",
    "AssertionError",
    "Answered",
}
# What raises these says the start of the sentence too, or is given it: sentences that are put together, and
# errors that are passed on.
PASSED_ON = {
    "error",
    "sentence",
    "' '.join(unwritten)",
    "explain_missing(folders)",
    "reply",
    "row",
    "explain_unreachable(repository, endpoint, error)",
    "explain_unreachable(f'{file.repository}/{file.file}', endpoint, error)",
}
# Reasons: whoever raises the error that the user sees puts the subject, and the full stop, around them.
REASONS = (
    "vd_core/training/loop.py",
    "vd_core/training/prepared.py",
    "vd_core/checkpoints/pipeline_config.py",
    "vd_core/config.py",
    "vd_core/checkpoints/formats.py",
    "vd_core/checkpoints/pickles.py",
    "vd_core/checkpoints/vocabularies.py",
    "vd_core/pictures.py",
    "vd_core/datasets/read.py",
    "vd_core/datasets/rows.py",
    "seecoder/sizes.py",
    "runner/http.py",
)
HEAD = """# What is said when something is refused

Each sentence that the nodes, `run_workflow.py` and `versatile-diffusion` can end in, by the file that says
it; … is filled in. In ComfyUI it stands in the dialog of the node, on the command line on the last line of
stderr, with exit status 1, or 2, 3 and 4 of `run_workflow.py`. Reasons without a full stop are parts of other
sentences.

Written by `python -m tools.messages`.
"""


@dataclass(frozen=True)
class Said:
    """A sentence, where it is, and {} for what is filled in."""

    file: str
    line: int
    text: str

    @property
    def is_reason(self) -> bool:
        """Whether it is only a part of a sentence."""
        return self.file in REASONS and not self.text.endswith(".")


def read_text(node: ast.expr, constants: dict[str, str]) -> str | None:
    """Read the text of a string, an f-string or a constant, {} for what is filled in; else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values)
    return constants.get(node.id) if isinstance(node, ast.Name) else None


def find_raised(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Find (line, what it is called with) of every error that is raised, and of every text that a function
    returns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            name = node.exc.func.attr if isinstance(node.exc.func, ast.Attribute) else node.exc.func.id
            if name not in UNSEEN and name != "explain_corrupt":  # which returns an error of its own
                yield node.lineno, node.exc.args[0]
        elif (
            isinstance(node, ast.Return)
            and isinstance(node.value, ast.Call)
            and getattr(node.value.func, "id", "") == "ValueError"
        ):
            yield node.lineno, node.value.args[0]
        elif isinstance(node, ast.Return) and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
            text = read_text(node.value, {}) or ""
            if text.endswith(".") and " " in text:
                yield node.lineno, node.value


def find_sentences() -> tuple[list[Said], list[str]]:
    """Find every sentence, and every error whose text is none that can be read here."""
    sentences, others = [], []
    for file in [
        ROOT / "run_workflow.py",
        *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))),
    ]:
        name, tree = file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))
        values = [
            node
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        ]
        constants = {
            node.targets[0].id: node.value.value for node in values if isinstance(node.value.value, str)
        }
        for line, node in find_raised(tree):
            text = read_text(node, constants)
            if text is None:
                others.append((f"{name}:{line}", ast.unparse(node)))
            elif re.search("[a-z]", text.replace("{}", "")):
                sentences.append(Said(name, line, text))
    return sentences, others


SENTENCES, OTHERS = find_sentences()


def write_page() -> str:
    """Write docs/messages.md."""
    lines, file = [HEAD], ""
    for said in SENTENCES:
        if said.file != file:
            file = said.file
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            about = re.split(r"[.:;](?: |$)", (ast.get_docstring(tree) or file).splitlines()[0])[0]
            lines.append(f"\n## {about}\n\n`{file}`\n")
        lines.append(f"- {'… ' * said.is_reason}{re.sub('({})+', '…', said.text)}".replace("<", "&lt;"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
