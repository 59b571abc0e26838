"""Graphs of stock nodes around the models of this pack, queued on a real server; the outcomes are the table
docs/graphs.md.

VD_GRAPHS_TABLE=docs/graphs.md pytest tests/live/test_graphs.py    writes the column of this core.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import graphs_app
import graphs_blended
import graphs_guidance
import graphs_image
import graphs_latents
import graphs_patches
import graphs_ranked
import graphs_refused
import graphs_steered
import graphs_text
import numpy as np
import pytest
from assets import write_assets
from graph import Graph, Node, prompt_of
from PIL import Image

pytestmark = pytest.mark.comfyui

SECTIONS = {
    "Image model": {**graphs_image.GRAPHS, **graphs_latents.GRAPHS, **graphs_patches.GRAPHS},
    "Text model": graphs_text.GRAPHS,
    "Ranked": graphs_ranked.GRAPHS,
    "Between contexts": graphs_blended.GRAPHS,
    "Guidance and negatives": graphs_guidance.GRAPHS,
    "Steered": graphs_steered.GRAPHS,
    "The official app": graphs_app.GRAPHS,
    "Refused": graphs_refused.GRAPHS,
}
GRAPHS = {name: graph for graphs in SECTIONS.values() for name, graph in graphs.items()}
FLAWS = re.compile(r"not loaded|could not be applied|missing controlnet keys|shape mismatch|Traceback")
# in most graphs, so not worth a mention
USUAL = {
    "LoadImage",
    "EmptyLatentImage",
    "VAEDecode",
    "PreviewImage",
    "PreviewAny",
}


@dataclass
class Outcome:
    """What became of a graph."""

    pictures: list[np.ndarray] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    error: dict | None = None
    log: str = ""

    def equals(self, other: Outcome) -> bool:
        """The same pictures and texts."""
        same = len(self.pictures) == len(other.pictures) and self.texts == other.texts
        return same and all(
            np.array_equal(one, two) for one, two in zip(self.pictures, other.pictures, strict=True)
        )


class Outcomes:
    """Runs graphs, each once."""

    def __init__(self, server):
        self.server, self.known = server, {}

    def of(self, output: Node) -> Outcome:
        """The outcome of the graph that ends in a node."""
        if output not in self.known:
            self.known[output] = self.run(prompt_of(output))
        return self.known[output]

    def run(self, prompt: dict) -> Outcome:
        """Queues a prompt and reads what it made."""
        start = self.server.log.stat().st_size
        entry = self.server.run(prompt)
        errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
        outcome = Outcome(
            error=errors[0] if errors else None,
            log=self.server.log.read_bytes()[start:].decode("utf-8", "replace"),
        )
        for output in entry["outputs"].values():
            outcome.texts += output.get("text", ())
            for file in output.get("images", ()):
                with Image.open(io.BytesIO(b"".join(self.server.client.view(file)))) as image:
                    outcome.pictures.append(np.asarray(image.convert("RGB"), dtype=np.int16))
        return outcome


@pytest.fixture(scope="module")
def outcomes(server):
    """Outcomes on the server, written down at the end where all graphs ran and a table is asked for."""
    write_assets(server.base / "models", server.base / "input")
    found = Outcomes(server)
    yield found
    path = os.environ.get("VD_GRAPHS_TABLE")
    if path and all(graph.output in found.known for graph in GRAPHS.values()):
        version = server.client.greet()["system"]["comfyui_version"]
        Path(path).write_text(table(found, version, Path(path).read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize("name", [name for name, graph in GRAPHS.items() if not graph.refused])
def test_runs(name, outcomes):
    graph = GRAPHS[name]
    outcome = outcomes.of(graph.output)
    assert outcome.error is None, outcome.error["exception_message"]
    assert not FLAWS.search(outcome.log), outcome.log
    assert all(picture.std() > 5 for picture in outcome.pictures), "a picture of one colour"
    assert all(text.strip() for text in outcome.texts)
    if graph.differs is not None:
        assert not outcome.equals(outcomes.of(graph.differs)), "the patch changes nothing"


@pytest.mark.parametrize("name", list(graphs_refused.GRAPHS))
def test_is_refused_with_a_sentence(name, outcomes):
    error = outcomes.of(GRAPHS[name].output).error
    assert error, "it runs"
    message = error["exception_message"].strip()
    assert error["exception_type"] == "ValueError", message
    assert GRAPHS[name].refused in message
    assert "\n" not in message and message.endswith(".")


def test_there_are_enough_graphs():
    assert len(GRAPHS) == sum(len(graphs) for graphs in SECTIONS.values())  # no name twice
    assert len([graph for graph in GRAPHS.values() if not graph.refused]) >= 45


def table(outcomes: Outcomes, version: str, before: str) -> str:
    """Write the outcomes in Markdown, a column per version of ComfyUI. before: the table so far, whose other
    columns stay."""
    columns = columns_of(before)
    columns[version] = {graph.what: told(outcomes.of(graph.output)) for graph in GRAPHS.values()}
    versions = sorted(columns, key=lambda name: [int(number) for number in name.split(".")])
    lines = [
        "# Stock nodes around the models",
        "",
        f"Each graph was queued on ComfyUI {', '.join(versions)} with the embedded model, on a CPU. "
        "`tests/live/test_graphs.py` runs",
        "them and writes the column of its core; nothing here is written by hand. Nodes that most graphs "
        "have are left out.",
        "`VDLive_…` are nodes of the tests that do what other packs do.",
    ]
    for title, graphs in SECTIONS.items():
        more = ["Sentence"] if title == "Refused" else []
        header = ["Graph", "Nodes of ComfyUI", *versions, *more]
        lines += ["", f"## {title}", "", row(header), row(["---"] * len(header))]
        for graph in graphs.values():
            cells = [columns[name].get(graph.what, "not run") for name in versions]
            said = [outcomes.of(graph.output).error["exception_message"].strip()] if more else []
            lines.append(row([graph.what, ", ".join(stock_nodes(graph)), *cells, *said]))
    return "\n".join(lines) + "\n"


def row(cells: list[str]) -> str:
    """Write one row of a table."""
    return f"| {' | '.join(cells)} |"


def columns_of(text: str) -> dict[str, dict[str, str]]:
    """Read {version: {graph: outcome}} from the tables of a file written by `table`."""
    columns: dict[str, dict[str, str]] = {}
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| Graph |"):
            header = cells
        elif line.startswith("| ") and not line.startswith("| ---"):
            for name, cell in zip(header, cells, strict=False):
                if re.fullmatch(r"\d+(\.\d+)+", name):
                    columns.setdefault(name, {})[cells[0]] = cell
    return columns


def stock_nodes(graph: Graph) -> list[str]:
    """The node classes that are not of this pack."""
    classes = dict.fromkeys(node["class_type"] for node in prompt_of(graph.output).values())
    return [f"`{name}`" for name in classes if not name.startswith("VD_") and name not in USUAL]


def told(outcome: Outcome) -> str:
    """Name an outcome in one word."""
    return "refused" if outcome.error else "pass"
