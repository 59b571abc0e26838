"""Lay out the workflows' canvas files again and write their API twins.

`python -m tools.lay_out_workflows --server URL [NAME.json …]`

Nodes stand in columns from left to right as data flows, in groups as core's templates have them, with room
for the taller nodes of ComfyUI's newer page and for the previews that a run adds. The canvas file is the
source; its twin in `workflows/api` has its name without the number. URL: a running ComfyUI with this pack,
which says which inputs each class has.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from runner.graph import Catalogue, convert_canvas
from runner.server import Server

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows"
PACK = "versatile-diffusion"  # what the registry calls this pack
CORE = "0.3.64"  # the oldest ComfyUI that the workflows are tested with

# Title, colour, the classes whose nodes begin it; a node stands no further left than what it reads.
GROUPS = (
    (
        "Model and pictures",
        "#3f789e",
        re.compile(r"VD_Load|VD_Example|Load|SeeCoder_Load|PFD_Load|VD_Squeeze|Canny|ImageScale"),
    ),
    (
        "Contexts and size",
        "#b06634",
        re.compile(
            r".*Context|Empty|VD_Empty|VD_Blend|VD_Join|VD_Region|VD_Sweep|SeeCoder_Encode|CLIPTextEncode|"
            r"Conditioning|ControlNet"
        ),
    ),
    (
        "Sample",
        "#8A8",
        re.compile(r".*Sampl|.*Latent|VAE|VD_TextDecode|VD_TextEncode|VD_Invert|VD_EditText|VD_ImageEncode"),
    ),
    (
        "Result",
        "#a1309b",
        re.compile(r"SaveImage|Preview|VD_Sheet|VD_Rank|VD_SaveContext|VD_Show|VD_ColorAdjust"),
    ),
)
NOTE = "MarkdownNote"
WIDTH, MARGIN, HEADER = 330, 40, 60
GAP = 90  # below a node: inputs that its class got since the file was written make it taller
# Between columns: the Vue nodes of frontend 1.27 are 430 wide, whatever a file says.
ASIDE = 110
RESULTS = 600  # the width of nodes that show pictures that were made
# More that samplers need beside and below themselves while they run: in frontend 1.27 a picture of the way
# there makes them 276 taller and, if it is twice as wide as high, 116 wider.
SAMPLERS = ("VD_Sampler", "KSampler", "SamplerCustom", "VD_Invert")
BESIDE, BELOW = 120, 150
PREVIEWS = {
    "SaveImage": RESULTS,
    "PreviewImage": RESULTS,
    "LoadImage": 340,
    "LoadImageMask": 340,
    "PreviewAny": 200,
    # Those of the way there, measured in Chromium: 612, 540 and 452 pixels in all.
    "VD_Sampler": 120,
    "KSampler": 120,
    "VD_Invert": 240,
}


def measure_height(node: dict) -> int:
    """Estimate the height in pixels of a node on the newer page, previews included."""
    inputs = [entry for entry in node.get("inputs") or [] if "widget" not in entry]
    slots = max(len(inputs), len(node.get("outputs") or []))
    values = node.get("widgets_values") or []
    lines = 130 * sum(
        node["type"] in ("VD_TextContext", "CLIPTextEncode", "VD_TextEncode") and isinstance(v, str)
        for v in values
    )
    return HEADER + 26 * slots + 38 * len(values) + lines + PREVIEWS.get(node["type"], 0)


def measure_width(node: dict) -> int:
    """Return the width in pixels of a node."""
    return RESULTS if node["type"] in ("SaveImage", "PreviewImage") else WIDTH


def measure_room(node: dict) -> tuple[int, int]:
    """Return the width and height in pixels that a node may come to need."""
    beside, below = (BESIDE, BELOW) if node["type"] in SAMPLERS else (0, 0)
    return measure_width(node) + beside, measure_height(node) + below


def find_group(node: dict) -> int:
    """Tell which of `GROUPS` a node belongs to by its class; the last that matches none is sampling's."""
    return next((number for number, (_, _, classes) in enumerate(GROUPS) if classes.match(node["type"])), 2)


def find_columns(canvas: dict) -> dict[int, tuple[int, int]]:
    """Find (group, column within the group) of each node, so that every wire leads to the right."""
    nodes = {node["id"]: node for node in canvas["nodes"] if node["type"] != NOTE}
    sources: dict[int, set[int]] = {key: set() for key in nodes}
    for _, source, _, target, *_ in canvas["links"]:
        sources[target].add(source)
    places: dict[int, tuple[int, int]] = {}

    def place(key: int) -> tuple[int, int]:
        if key not in places:
            before = [place(source) for source in sources[key]]
            group = max([find_group(nodes[key]), *(earlier for earlier, _ in before)])
            places[key] = (
                group,
                max([column + 1 for earlier, column in before if earlier == group], default=0),
            )
        return places[key]

    for key in nodes:
        place(key)
    return places


def lay_out(canvas: dict) -> None:
    """Set positions and sizes of all nodes, and the groups around them."""
    places = find_columns(canvas)
    nodes = {node["id"]: node for node in canvas["nodes"]}
    columns: dict[tuple[int, int], list[int]] = {}
    for key in sorted(places, key=lambda key: nodes[key].get("order", 0)):
        columns.setdefault(places[key], []).append(key)
    x, boxes = MARGIN, []
    for group in sorted({group for group, _ in columns}):
        left, bottom = x, 0
        for column in sorted(place for place in columns if place[0] == group):
            y = MARGIN
            for key in columns[column]:
                size = [measure_width(nodes[key]), measure_height(nodes[key])]
                nodes[key]["pos"], nodes[key]["size"] = [x, y], size
                y += measure_room(nodes[key])[1] + GAP
            bottom = max(bottom, y - GAP)
            x += max(measure_room(nodes[key])[0] for key in columns[column]) + ASIDE
        title, color, _ = GROUPS[group]
        frame = [left - 20, MARGIN - HEADER - 30, x - ASIDE - left + 40, bottom - MARGIN + HEADER + 60]
        boxes.append(
            {"id": group + 1, "title": title, "bounding": frame, "color": color, "font_size": 24, "flags": {}}
        )
        x += 30
    canvas["groups"] = boxes
    for note in (node for node in canvas["nodes"] if node["type"] == NOTE):
        height = HEADER + 30 * sum(1 + len(line) // 70 for line in note["widgets_values"][0].splitlines())
        note["pos"], note["size"] = [MARGIN, MARGIN - HEADER - 70 - height], [720, height]
    canvas["extra"] = {"ds": {"scale": 0.6, "offset": [80, 420]}}


def name_packs(canvas: dict, version: str) -> None:
    """Write into each node which pack it is of, so that a page without the pack can offer it."""
    for node in canvas["nodes"]:
        ours = re.match(r"VD_|SeeCoder_|PFD_", node["type"])
        own = {"cnr_id": PACK, "ver": version} if ours else {"cnr_id": "comfy-core", "ver": CORE}
        node["properties"] = {**(node.get("properties") or {}), "Node name for S&R": node["type"], **own}


def name_twin(path: Path) -> Path:
    """Name the API twin of a canvas file: it has no number, so that scripts keep their names."""
    return WORKFLOWS / "api" / re.sub(r"^\d\d-", "", path.name)


def main() -> None:
    """Lay out the named canvas files, or all, and write their twins."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="NAME.json")
    parser.add_argument("--server", required=True, metavar="URL")
    options = parser.parse_args()
    classes = Server(options.server).get("/object_info")
    catalogue = Catalogue({name: about.get("input", {}) for name, about in classes.items()}, "is not there")
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]
    for path in options.files or sorted(
        path for path in WORKFLOWS.rglob("*.json") if path.parent.name != "api"
    ):
        canvas = json.loads(path.read_text(encoding="utf-8"))
        lay_out(canvas)
        name_packs(canvas, version)
        path.write_text(json.dumps(canvas, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        prompt = convert_canvas(canvas, catalogue, str(name_twin(path)))
        for node in prompt.values():  # as the class lists them
            order = list(catalogue.inputs(node["class_type"], node["_meta"]["title"]))
            node["inputs"] = dict(sorted(node["inputs"].items(), key=lambda entry: order.index(entry[0])))
        name_twin(path).write_text(json.dumps(prompt, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
