"""Workflow files: read, convert from the canvas format, and change. Standard library only.

A prompt is ComfyUI's API format: {id: {"class_type", "inputs", "_meta": {"title"}}}, where an input is a value or a link [id, slot].
Every function raises WorkflowError, one sentence, for what the user can put right.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from vd_core.files import leads_out
from vd_core.foreign import printable

from .errors import WorkflowError
from .workflow_file import is_canvas, read

WIDGETS = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str, "COMBO": object}
SEEDS = ("seed", "noise_seed")
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")
NOTES = ("Note", "MarkdownNote")
CANVAS_ONLY = ("Reroute", "PrimitiveNode")
MODES = {2: "muted", 4: "bypassed"}
DATE = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')  # in the name of a file


@dataclass(frozen=True)
class Input:
    """One entry of INPUT_TYPES. `type` is "COMBO" for a list of choices, which are in `choices`."""

    type: str
    options: dict
    required: bool
    choices: list = field(default_factory=list)

    @property
    def is_widget(self) -> bool:
        """Holds a value on the canvas, rather than only a link."""
        return self.type in WIDGETS and not self.options.get("forceInput")


@dataclass(frozen=True)
class Catalogue:
    """What classes of nodes there are.

    types: INPUT_TYPES by class name, as the classes here or a server's /object_info give it.
    absent: what a message says of a class that is not there, after the node's title; {name} stands for the class.
    """

    types: dict[str, dict]
    absent: str

    def inputs(self, name: str, title: str) -> dict[str, Input]:
        """The inputs of a class in their order on the canvas, hidden ones left out. title: how messages call the node."""
        if name not in self.types:
            raise WorkflowError(f"{title} {self.absent.format(name=printable(name))}")
        inputs = {}
        for group in ("required", "optional"):
            entries = self.types[name].get(group) or {}
            if not isinstance(entries, dict) or not all(map(is_entry, entries.values())):
                raise WorkflowError(
                    f"{title} cannot be used: the inputs of {printable(name)} are described wrongly."
                )
            for key, (kind, *rest) in entries.items():
                options = rest[0] if rest and isinstance(rest[0], dict) else {}
                if isinstance(kind, (list, tuple)):
                    inputs[key] = Input("COMBO", options, group == "required", list(kind))
                else:
                    given = options.get("options")
                    choices = list(given) if isinstance(given, (list, tuple)) else []
                    inputs[key] = Input(kind, options, group == "required", choices)
        return inputs


def is_entry(entry: object) -> bool:
    """Tell whether something is an entry of INPUT_TYPES: a type or a list of choices, and perhaps options."""
    return isinstance(entry, (list, tuple)) and len(entry) > 0 and isinstance(entry[0], (str, list, tuple))


def of_classes(classes: dict) -> Catalogue:
    """The catalogue of the classes that run in this process."""
    absent = (
        "needs ComfyUI itself: no node of this pack and none of the stand-ins here is called {name}; "
        "run the workflow with --comfyui PATH or --server URL."
    )
    return Catalogue({name: cls.INPUT_TYPES() for name, cls in classes.items()}, absent)


def title_of(node: dict) -> str:
    """Return the title of an API-format node, else its class, as it can be printed."""
    meta = node.get("_meta")
    return printable(
        str(meta.get("title") or node["class_type"]) if isinstance(meta, dict) else node["class_type"]
    )


def label(prompt: dict, node_id: str) -> str:
    """How messages name a node."""
    return f"{title_of(prompt[node_id])} (node {printable(node_id)})"


def picture(name: str, folders: list[Path]) -> Path | None:
    """The first file of this name: as given, then below the folders."""
    if len(name.encode("utf-8", "replace")) > 4000:  # longer than any path; systems refuse even to look
        return None
    try:
        return next(
            (path for path in [Path(name), *(folder / name for folder in folders)] if path.is_file()), None
        )
    except OSError:  # a name that is too long
        return None


def prepare(
    workflow: Path, catalogue: Catalogue, assignments: list[str], seed: int | None
) -> tuple[dict, dict]:
    """A workflow file with the changes from the command line -> (prompt, {"workflow": canvas}, empty where the file has none)."""
    prompt, canvas = read(workflow), {}
    if is_canvas(prompt):
        twin = find_twin(workflow)
        hint = str(twin) if twin else "its export in API format"
        prompt, canvas = from_canvas(prompt, catalogue, hint), {"workflow": prompt}
    for key, node in prompt.items():
        catalogue.inputs(node["class_type"], label(prompt, key))
    if seed is not None and not set_seed(prompt, catalogue, seed):
        print("--seed: no node of this workflow has a seed", file=sys.stderr)
    changed = {set_input(prompt, catalogue, assignment) for assignment in assignments}
    for key in prompt:
        check_pictures(prompt, key, catalogue, changed)
    expand_names(prompt, datetime.now())
    return prompt, canvas


def find_twin(workflow: Path) -> Path | None:
    """Find the API twin of one of this pack's canvas files: in `api` beside it or beside its folder, without the number of its name."""
    name = re.sub(r"^\d\d-", "", workflow.name)
    folders = workflow.parent, workflow.parent.parent
    return next((folder / "api" / name for folder in folders if (folder / "api" / name).is_file()), None)


def check_pictures(prompt: dict, key: str, catalogue: Catalogue, changed: set[tuple[str, str]]) -> None:
    """Raise WorkflowError for pictures of a node that lead out of the folders where pictures lie: the file may be a stranger's.

    changed: (node id, input) of what the command line says, where any file may be named.
    """
    node = prompt[key]
    for name, entry in catalogue.inputs(node["class_type"], label(prompt, key)).items():
        value = node["inputs"].get(name)
        if (
            entry.options.get("image_upload")
            and isinstance(value, str)
            and (key, name) not in changed
            and leads_out(value)
        ):
            raise WorkflowError(
                f"{label(prompt, key)}, input {name}: {value!r} leads out of the folders of pictures; if it is meant, "
                f"say so on the command line: --set {key}.{name}=PATH."
            )


# Canvas format -> API format


def from_canvas(canvas: dict, catalogue: Catalogue, twin: str) -> dict:
    """A canvas file as a prompt. `twin`: how messages name the API-format file to use where the canvas does not say enough."""
    try:
        subgraphs = {graph["id"] for graph in canvas.get("definitions", {}).get("subgraphs", [])}
        sources = dict(link_source(link) for link in canvas["links"])
        prompt = {}
        for node in canvas["nodes"]:
            name, title = node["type"], printable(str(node.get("title") or node["type"]))
            if name in NOTES:
                continue
            if node.get("mode") in MODES:
                raise WorkflowError(
                    f"{title} is {MODES[node['mode']]}, which only ComfyUI's canvas resolves: use {twin} instead."
                )
            if name in CANVAS_ONLY or name in subgraphs:
                raise WorkflowError(f"{title} exists only on ComfyUI's canvas: use {twin} instead.")
            inputs = widget_values(node, title, catalogue.inputs(name, title), twin)
            linked = {
                entry["name"]: sources[entry["link"]]
                for entry in node.get("inputs") or []
                if entry.get("link") is not None
            }
            prompt[str(node["id"])] = {
                "class_type": name,
                "inputs": inputs | linked,
                "_meta": {"title": title},
            }
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise WorkflowError(
            f"The canvas file is damaged ({type(error).__name__}: {printable(str(error))}): use {twin} instead."
        ) from error
    if not prompt:
        raise WorkflowError("The workflow has no nodes.")
    return prompt


def link_source(link) -> tuple:
    """A row of the links table, in the older (list) or the newer (dict) form -> (link id, [node id, slot])."""
    if isinstance(link, dict):
        return link["id"], [str(link["origin_id"]), link["origin_slot"]]
    return link[0], [str(link[1]), link[2]]


def widget_values(node: dict, title: str, inputs: dict[str, Input], twin: str) -> dict:
    """The values of a canvas node by name: widgets_values in schema order, with the extra widgets that the page adds."""
    widgets = {name: entry for name, entry in inputs.items() if entry.is_widget}
    values = node.get("widgets_values") or []
    if isinstance(values, dict):
        return {name: values[name] for name in widgets if name in values}
    rest, named = list(values), {}
    for name, entry in widgets.items():
        if rest:
            named[name] = rest.pop(0)
        seed = entry.type == "INT" and name in SEEDS or entry.options.get("control_after_generate")
        if rest and (
            seed and rest[0] in SEED_CONTROLS or entry.options.get("image_upload") and rest[0] == "image"
        ):
            rest.pop(0)
    if widgets and rest:  # a node without widgets may carry those of its preview
        raise WorkflowError(
            f"{title} has {len(values)} widget values, but its class does not have that many widgets: use {twin} instead."
        )
    return named


def describe_inputs(prompt: dict, catalogue: Catalogue) -> Iterator[dict]:
    """Yield what `--set` can change: node, title, class, input, type, value, and choices or range where there are any."""
    for key, node in prompt.items():
        for name, entry in catalogue.inputs(node["class_type"], label(prompt, key)).items():
            if entry.is_widget:
                value = node["inputs"].get(name, entry.options.get("default"))
                about = {"node": key, "title": title_of(node), "class": node["class_type"], "input": name}
                about |= {"type": entry.type, "value": None if isinstance(value, list) else value}
                about |= {"linked": True} if isinstance(value, list) else {}
                about |= {"choices": entry.choices} if entry.choices else {}
                yield about | {side: entry.options[side] for side in ("min", "max") if side in entry.options}


# What the page does before it queues


def expand_names(prompt: dict, now: datetime) -> None:
    """Fill in %date:FORMAT% and %NODE.INPUT% in the names of files to be saved, as ComfyUI's page does."""

    def replace(found: re.Match) -> str:
        what, text = found[1], found[0]
        if what.startswith("date:"):
            return DATE.sub(lambda part: format_date(part[0], now), what.removeprefix("date:"))
        title, dot, name = what.partition(".")
        nodes = [node for node in prompt.values() if title in (title_of(node), node["class_type"])]
        value = nodes[0]["inputs"].get(name) if dot and len(nodes) == 1 else None
        return text if value is None or isinstance(value, (list, dict)) else UNSAFE.sub("_", str(value))

    for node in prompt.values():
        prefix = node["inputs"].get("filename_prefix")
        if isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = re.sub("%([^%]+)%", replace, prefix)


def format_date(part: str, now: datetime) -> str:
    """Format one part of a date as ComfyUI's page does: yyyy or yy, and M, d, h, m, s with or without a leading zero."""
    if part[0] == "y":
        return {"yy": f"{now.year:04}"[2:], "yyyy": f"{now.year:04}"}.get(part, part)
    value = {"M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}[part[0]]
    return f"{value:0{len(part)}}"


# Changes from the command line


def set_seed(prompt: dict, catalogue: Catalogue, seed: int) -> int:
    """Sets every input called seed or noise_seed, linked ones too; returns how many."""
    count = 0
    for node in prompt.values():
        for name in catalogue.inputs(node["class_type"], title_of(node)):
            if name in SEEDS:
                node["inputs"][name] = seed
                count += 1
    return count


def set_input(prompt: dict, catalogue: Catalogue, assignment: str) -> tuple[str, str]:
    """Applies NODE.INPUT=VALUE -> (node id, input). VALUE is read as the input's type.

    NODE is an id, or a title that only one node has: the whole of it, or what stands before " · " ("Prompt" of "Prompt · Text Context").
    """
    target, equals, text = assignment.partition("=")
    node_name, dot, name = target.rpartition(".")
    if not (equals and dot and node_name and name):
        raise WorkflowError(f"--set {assignment} must have the form NODE.INPUT=VALUE.")
    found = [node_name] if node_name in prompt else find_by_title(prompt, node_name)
    if not found:
        known = ", ".join(label(prompt, key) for key in prompt)
        raise WorkflowError(
            f"--set {assignment}: no node has the id or title {node_name}; there are {known}."
        )
    if len(found) > 1:
        raise WorkflowError(
            f"--set {assignment}: nodes {', '.join(found)} are all called {node_name}, so use an id."
        )
    node = prompt[found[0]]
    inputs = catalogue.inputs(node["class_type"], title_of(node))
    widgets = {key: entry for key, entry in inputs.items() if entry.is_widget}
    if name not in widgets:
        raise WorkflowError(
            f"--set {assignment}: {label(prompt, found[0])} has no value {name}, only {', '.join(widgets) or 'links'}."
        )
    node["inputs"][name] = parse_value(text, widgets[name], f"--set {assignment}")
    return found[0], name


def find_by_title(prompt: dict, title: str) -> list[str]:
    """The ids of the nodes with a title, whole or before " · "."""
    return [key for key, node in prompt.items() if title in (title_of(node), title_of(node).split(" · ")[0])]


def parse_value(text: str, entry: Input, where: str):
    """Text of the command line as a value of an input's type; ranges and choices are left to `check`."""
    if entry.type == "BOOLEAN":
        if text.lower() not in ("true", "false"):
            raise WorkflowError(f"{where}: the value must be true or false.")
        return text.lower() == "true"
    if entry.type == "COMBO":
        return next((choice for choice in entry.choices if str(choice) == text), text)
    try:
        return WIDGETS[entry.type](text)
    except ValueError as error:
        raise WorkflowError(
            f"{where}: {text} is not {'a whole number' if entry.type == 'INT' else 'a number'}."
        ) from error
