"""The README shows some rows of docs/figures.md, which is where figures are kept: they must not come apart."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_readmes_figures_are_rows_of_the_document():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Figures\n", 1)[1].split("\n## ", 1)[0]
    shown = [line for line in section.splitlines() if line.startswith("|")][2:]
    kept = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8").splitlines()
    assert len(shown) > 5 and not [row for row in shown if row not in kept]
