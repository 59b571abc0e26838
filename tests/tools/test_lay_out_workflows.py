"""The workflows' layout: what the tool makes, with the room that pages of ComfyUI need."""

import copy
import json
from itertools import combinations

import pytest

from tools.lay_out_workflows import NOTE, RESULTS, SAMPLERS, WORKFLOWS, lay_out

CANVASES = sorted(path for path in WORKFLOWS.rglob("*.json") if path.parent.name != "api")
# As measured in frontend 1.27's Vue nodes, whose width is theirs, not the file's: beyond the file's height,
# and the same for samplers while they show a wide picture of the way there.
WIDTH, TALLER = 430, 75
WIDTH_SAMPLING, TALLER_SAMPLING = 546, 223


def draw(node: dict) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) on that page."""
    left, top = node["pos"]
    if node["type"] in SAMPLERS:
        return left, top, left + WIDTH_SAMPLING, top + node["size"][1] + TALLER_SAMPLING
    width = max(WIDTH, node["size"][0] if node["size"][0] == RESULTS else 0)
    return left, top, left + width, top + node["size"][1] + TALLER


@pytest.mark.parametrize("path", CANVASES, ids=lambda path: path.stem)
def test_no_node_covers_another_where_nodes_are_largest(path):
    nodes = [node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"] if node["type"] != NOTE]
    for one, other in combinations(nodes, 2):
        left, top, right, bottom = draw(one)
        other_left, other_top, other_right, other_bottom = draw(other)
        apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
        assert apart, (one["type"], one["id"], other["type"], other["id"])


@pytest.mark.parametrize("path", CANVASES, ids=lambda path: path.stem)
def test_files_are_laid_out_by_the_tool(path):
    canvas = json.loads(path.read_text(encoding="utf-8"))
    again = copy.deepcopy(canvas)
    lay_out(again)
    assert again == canvas
