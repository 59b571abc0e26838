"""Workflow files in API format, changed in every way, checked as the standalone host checks them; and paths
that leave their folders."""

from __future__ import annotations

import copy
import json
import random
from functools import partial
from pathlib import Path

from runner.checks import Node, check
from runner.graph import describe_classes
from runner.in_process import run_node
from runner.prepare import Changes, prepare

from .bad_inputs import NUMBERS, TEXTS, Bench
from .forked import Result, Table, judge_error, run_forked

ROOT = Path(__file__).resolve().parents[2]
GRAPHS = 4000
TOGETHER = 100  # graphs in one child: they only get checked
ODD = (
    *NUMBERS,
    *TEXTS[:3],
    {},
    [],
    ["1", 0],
    ["1", -1],
    ["1", 99],
    ["nowhere", 0],
    [1, 0],
    ["1", "0"],
    {"__value__": [1]},
    [[]],
    {"a": {}},
)


def change(prompt: dict, rng: random.Random) -> None:
    """Make one change in place."""
    key = rng.choice(sorted(prompt))
    node = prompt[key]
    inputs = node.get("inputs") if isinstance(node, dict) and isinstance(node.get("inputs"), dict) else {}
    name = rng.choice(sorted(inputs)) if inputs else "x"
    kind = rng.randrange(10)
    if kind == 0 and isinstance(node, dict):
        node["class_type"] = rng.choice(
            ["", "KSampler", "NoSuchNode", "VD_Sampler", "SaveImage", "__class__", None, 3, "PreviewAny"]
        )
    elif kind == 1:
        del prompt[key]
        prompt.setdefault("left", {"class_type": "PreviewAny", "inputs": {"source": "x"}})
    elif kind == 2:
        inputs[name] = [rng.choice(sorted(prompt)), rng.choice([0, 1, 2, -1, 50])]
    elif kind == 3:
        inputs.pop(name, None)
    elif kind == 4 and isinstance(node, dict):
        node[rng.choice(["inputs", "_meta", "class_type"])] = rng.choice(ODD)
    elif kind == 5:
        prompt[key] = rng.choice(ODD)
    elif kind == 6:
        inputs[rng.choice(["self", "output_directory", "class", "é", ""])] = rng.choice(ODD)
    else:
        inputs[name] = rng.choice(ODD)


def check_graphs(bench: Bench, workflows: list[dict], seeds: list[int], folder: Path) -> Result:
    """Try many changed graphs; counts as said, or the first that ended badly."""
    path, refused = folder / "flow.json", 0
    for seed in seeds:
        rng = random.Random(seed)
        prompt = copy.deepcopy(rng.choice(workflows))
        for _ in range(rng.randint(1, 4)):
            change(prompt, rng)
        path.write_text(json.dumps(prompt), encoding="utf-8")
        try:
            catalogue = describe_classes(bench.classes)
            check(
                prepare(path, catalogue, Changes(seed=rng.choice([None, 0, 2**64 - 1])))[0],
                bench.classes,
                [folder],
            )
        except Exception as error:
            result = judge_error(error)
            if result.end != "refused":
                return Result(result.end, f"seed {seed}: {result.said}")
            refused += 1
    return Result("survived", str(refused))


NAMES = (
    "../x",
    "a/../../x",
    "/tmp/x",
    "//x",
    "C:\\x",
    "c:x",
    "..\\x",
    "a\\..\\..\\x",
    "\\\\server\\share",
    "x\0y",
    "link/x",
    "link/../../x",
    "~/../x",
    "./../x",
    "a/./../../x",
    "..",
    "../",
    "x/..",
    "CON",
    "nul.txt",
    "COM1",
    "COM¹",
    "CONIN$",
    "aux/x",
    "a" * 300,
    "é" * 200,
    "画" * 100,
    "\ud800",
    "\x1b[2J",
    "x\n",
    "plain",
    "sub/plain",
    "a b",
    "…",
    "-x",
    ".hidden",
)


def write(bench: Bench, name: str, node: str, place: Path) -> Result:
    """Write a result under a prefix: nothing may lie outside of the output folder."""
    out = place / "out"
    values = {"filename_prefix": name}
    values |= (
        {"images": bench.pools["IMAGE"][0]}
        if node == "SaveImage"
        else dict(zip(("positive", "negative"), bench.pools["CONDITIONING"], strict=False))
    )
    try:
        ready = Node("1", node, bench.classes[node], values, {})
        run_node(ready, {}, {"OUTPUT_DIRECTORY": str(out), "PROMPT": {}, "EXTRA_PNGINFO": {}})
        result = Result("survived")
    except Exception as error:
        result = judge_error(error)
    stray = [
        str(path)
        for path in place.rglob("*")
        if path.is_file() and not path.resolve().is_relative_to(out.resolve())
    ]
    return Result("wrong", f"wrote {stray}") if stray else result


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Graphs and paths."""
    bench = Bench()
    workflows = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "workflows" / "api").glob("*.json"))
    ]
    for start in range(0, max(TOGETHER, round(GRAPHS * share)), TOGETHER):
        seeds = [seed * 1_000_003 + start + n for n in range(TOGETHER)]
        result = run_forked(partial(check_graphs, bench, workflows, seeds, folder))
        if result.end != "survived":
            table.add("graphs", f"{start}", result)
            continue
        for number in range(TOGETHER):
            table.add("graphs", str(number), Result("refused" if number < int(result.said) else "survived"))
    for node in ("SaveImage", "VD_SaveContext"):
        for number, name in enumerate(NAMES):
            place = folder / f"{node}{number}"
            (place / "out").mkdir(parents=True)
            (place / "elsewhere").mkdir()
            (place / "out" / "link").symlink_to(place / "elsewhere")
            table.add("paths", f"{node} {name!r}", run_forked(partial(write, bench, name, node, place)))
