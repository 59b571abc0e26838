"""The README: short enough to be read, with links that lead somewhere and the two commands that others rely
on."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *(ROOT / "docs").glob("*.md"),
    ROOT / "workflows" / "README.md",
]


def test_the_readme_is_short():
    assert len(README.split()) <= 1200


def test_the_quick_start_holds_two_commands_of_one_line():
    section = re.split(r"(?m)^## ", README.split("## Quick start", 1)[1])[0]
    commands = re.findall(r"```sh\n(.*?)\n```", section, re.S)
    assert len(commands) == 2 and not any("\n" in command for command in commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_resolve(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    inner = [link.split("#")[0] for link in links if not re.match(r"https?:|#", link)]
    assert [link for link in inner if not (page.parent / link).exists()] == []


def test_the_python_block_draws_a_picture(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "rocket.png").is_file() and names["images"].shape == (1, 3, 64, 64)
    assert names["images"].std() > 0.05


def test_the_tests_that_hold_the_promises_exist():
    promises = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## What is not promised")[0]
    named = re.findall(r"`(tests/[^`]+\.py)`", promises)
    assert len(named) > 10 and [name for name in named if not (ROOT / name).is_file()] == []
