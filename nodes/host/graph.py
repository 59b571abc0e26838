"""Workflow files without ComfyUI: read, convert from the canvas format, change, and check. Pure Python: nothing here runs a node.

A prompt is ComfyUI's API format: {id: {"class_type", "inputs", "_meta": {"title"}}}, where an input is a value or a link [id, slot].
Every function raises WorkflowError, one sentence, for what the user can put right.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

WIDGETS = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str, "COMBO": object}
SEEDS = ("seed", "noise_seed")
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")
NOTES = ("Note", "MarkdownNote")
CANVAS_ONLY = ("Reroute", "PrimitiveNode")
MODES = {2: "muted", 4: "bypassed"}


class WorkflowError(ValueError):
    """What is wrong with a workflow, in one sentence."""


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
class Node:
    """A checked node: its class, its values (pictures as paths that exist) and its links {input: (id, slot)}."""

    id: str
    title: str
    cls: type
    values: dict
    links: dict


def schema(cls) -> dict[str, Input]:
    """The inputs of a node class in their order on the canvas, hidden ones left out."""
    inputs = {}
    types = cls.INPUT_TYPES()
    for group in ("required", "optional"):
        for name, (kind, *rest) in types.get(group, {}).items():
            options = rest[0] if rest else {}
            if isinstance(kind, (list, tuple)):
                inputs[name] = Input("COMBO", options, group == "required", list(kind))
            else:
                inputs[name] = Input(kind, options, group == "required", list(options.get("options", [])))
    return inputs


def read(path: Path) -> dict:
    """The JSON object of a workflow file, in either format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise WorkflowError(f"{path} is not valid JSON: {error}.") from error
    if not (is_canvas(data) or is_prompt(data)):
        raise WorkflowError(f"{path} is not a ComfyUI workflow: it holds neither an API-format graph nor a canvas with nodes and links.")
    return data


def is_canvas(data) -> bool:
    """The format that ComfyUI's page saves."""
    return isinstance(data, dict) and isinstance(data.get("nodes"), list) and isinstance(data.get("links"), list)


def is_prompt(data) -> bool:
    """The API format."""
    nodes = list(data.values()) if isinstance(data, dict) else []
    return bool(nodes) and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict) for node in nodes
    )


def title_of(node: dict) -> str:
    """The title of an API-format node, else its class."""
    meta = node.get("_meta")
    return str(meta.get("title") or node["class_type"]) if isinstance(meta, dict) else node["class_type"]


def label(prompt: dict, node_id: str) -> str:
    """How messages name a node."""
    return f"{title_of(prompt[node_id])} (node {node_id})"


def class_of(name: str, title: str, classes: dict) -> type:
    """The class of a node; anything but the pack's own nodes and the stand-ins belongs to ComfyUI."""
    if name not in classes:
        raise WorkflowError(f"{title} needs ComfyUI itself: no node of this pack and none of the stand-ins here is called {name}.")
    return classes[name]


# Canvas format -> API format


def from_canvas(canvas: dict, classes: dict, twin: str) -> dict:
    """A canvas file as a prompt. `twin`: how messages name the API-format file to use where the canvas does not say enough."""
    try:
        subgraphs = {graph["id"] for graph in canvas.get("definitions", {}).get("subgraphs", [])}
        sources = dict(link_source(link) for link in canvas["links"])
        prompt = {}
        for node in canvas["nodes"]:
            name, title = node["type"], node.get("title") or node["type"]
            if name in NOTES:
                continue
            if node.get("mode") in MODES:
                raise WorkflowError(f"{title} is {MODES[node['mode']]}, which only ComfyUI's canvas resolves: use {twin} instead.")
            if name in CANVAS_ONLY or name in subgraphs:
                raise WorkflowError(f"{title} exists only on ComfyUI's canvas: use {twin} instead.")
            inputs = widget_values(node, title, schema(class_of(name, title, classes)), twin)
            linked = {entry["name"]: sources[entry["link"]] for entry in node.get("inputs") or [] if entry.get("link") is not None}
            prompt[str(node["id"])] = {"class_type": name, "inputs": inputs | linked, "_meta": {"title": title}}
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise WorkflowError(f"The canvas file is damaged ({type(error).__name__}: {error}): use {twin} instead.") from error
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
        seed = entry.type == "INT" and (name in SEEDS or entry.options.get("control_after_generate"))
        if rest and (seed and rest[0] in SEED_CONTROLS or entry.options.get("image_upload") and rest[0] == "image"):
            rest.pop(0)
    if widgets and rest:  # a node without widgets may carry those of its preview
        raise WorkflowError(f"{title} has {len(values)} widget values, but its class does not have that many widgets: use {twin} instead.")
    return named


# Changes from the command line


def set_seed(prompt: dict, classes: dict, seed: int) -> int:
    """Sets every input called seed or noise_seed, linked ones too; returns how many."""
    count = 0
    for node in prompt.values():
        for name in schema(class_of(node["class_type"], title_of(node), classes)):
            if name in SEEDS:
                node["inputs"][name] = seed
                count += 1
    return count


def set_input(prompt: dict, classes: dict, assignment: str) -> None:
    """Applies NODE.INPUT=VALUE. NODE is an id or a title that only one node has; VALUE is read as the input's type."""
    target, equals, text = assignment.partition("=")
    node_name, dot, name = target.rpartition(".")
    if not (equals and dot and node_name and name):
        raise WorkflowError(f"--set {assignment} must have the form NODE.INPUT=VALUE.")
    found = [node_name] if node_name in prompt else [key for key, node in prompt.items() if title_of(node) == node_name]
    if not found:
        known = ", ".join(label(prompt, key) for key in prompt)
        raise WorkflowError(f"--set {assignment}: no node has the id or title {node_name}; there are {known}.")
    if len(found) > 1:
        raise WorkflowError(f"--set {assignment}: nodes {', '.join(found)} are all called {node_name}, so use an id.")
    node = prompt[found[0]]
    inputs = schema(class_of(node["class_type"], title_of(node), classes))
    widgets = {key: entry for key, entry in inputs.items() if entry.is_widget}
    if name not in widgets:
        raise WorkflowError(f"--set {assignment}: {label(prompt, found[0])} has no value {name}, only {', '.join(widgets) or 'links'}.")
    node["inputs"][name] = parse_value(text, widgets[name], f"--set {assignment}")


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
        raise WorkflowError(f"{where}: {text} is not {'a whole number' if entry.type == 'INT' else 'a number'}.") from error


# Checks, all before anything runs


def check(prompt: dict, classes: dict, picture_folders: list[Path]) -> list[Node]:
    """The nodes that the output nodes need, checked, in an order in which they can run.

    picture_folders: where pictures are looked for, after the name as it is given.
    """
    kinds = {key: class_of(node["class_type"], label(prompt, key), classes) for key, node in prompt.items()}
    waiting = [key for key, cls in kinds.items() if getattr(cls, "OUTPUT_NODE", False)]
    if not waiting:
        raise WorkflowError("The workflow has no output node (SaveImage, PreviewImage, PreviewAny), so there is nothing to run.")
    nodes = {}
    while waiting:
        key = waiting.pop()
        if key not in nodes:
            nodes[key] = check_node(prompt, key, kinds, picture_folders)
            waiting += [source for source, _ in nodes[key].links.values()]
    sorter = TopologicalSorter({key: [source for source, _ in nodes[key].links.values()] for key in prompt if key in nodes})
    try:
        return [nodes[key] for key in sorter.static_order()]
    except CycleError as error:
        raise WorkflowError(f"The workflow runs in a circle: {' -> '.join(label(prompt, key) for key in error.args[1])}.") from error


def check_node(prompt: dict, key: str, kinds: dict, picture_folders: list[Path]) -> Node:
    """One node with its values and links checked against its class; inputs that the class does not have are left out, as ComfyUI does."""
    values, links, given = {}, {}, prompt[key]["inputs"]
    for name, entry in schema(kinds[key]).items():
        where = f"{label(prompt, key)}, input {name}"
        if name not in given:
            if entry.required:
                raise WorkflowError(f"{where}: it is required, but missing.")
        elif is_link(given[name]):
            links[name] = check_link(prompt, given[name], entry, kinds, where)
        else:
            values[name] = given[name]
    own = getattr(kinds[key], "VALIDATE_INPUTS", None)
    own_names = set(inspect.signature(own).parameters) if own else set()
    for name, value in values.items():
        if name not in own_names:  # ComfyUI too leaves these to the class
            where = f"{label(prompt, key)}, input {name}"
            values[name] = check_value(value, schema(kinds[key])[name], where, picture_folders)
    if own and (verdict := own(**{name: values.get(name) for name in own_names})) is not True:
        raise WorkflowError(f"{label(prompt, key)}: {verdict or 'its inputs do not fit together.'}")
    return Node(key, title_of(prompt[key]), kinds[key], values, links)


def is_link(value) -> bool:
    """[node id, slot], as ComfyUI tells links from values."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def check_link(prompt: dict, link: list, entry: Input, kinds: dict, where: str) -> tuple[str, int]:
    """The link, if it comes from an output that exists and has a type that the input takes."""
    source, slot = link
    if source not in prompt:
        raise WorkflowError(f"{where}: it is linked to node {source}, which does not exist.")
    outputs = kinds[source].RETURN_TYPES
    if not 0 <= slot < len(outputs):
        raise WorkflowError(f"{where}: it is linked to output {slot} of {label(prompt, source)}, which has {len(outputs)} outputs.")
    kind = outputs[slot] if isinstance(outputs[slot], str) else "COMBO"
    if "*" not in (kind, entry.type) and not set(kind.split(",")) & set(entry.type.split(",")):
        raise WorkflowError(f"{where}: it takes {entry.type}, but {label(prompt, source)} gives {kind} there.")
    return source, slot


def check_value(value, entry: Input, where: str, picture_folders: list[Path]):
    """The value as the node gets it: whole numbers as int, a picture's name as its path."""
    if isinstance(value, dict) and set(value) == {"__value__"}:  # how ComfyUI tells a list from a link
        value = value["__value__"]
    if entry.type == "*":
        return value
    if not entry.is_widget:
        raise WorkflowError(f"{where}: it takes a link of type {entry.type}, not the value {value!r}.")
    if entry.options.get("image_upload"):
        return find_picture(value, where, picture_folders)
    if entry.type == "COMBO":
        if value not in entry.choices:
            choices = ", ".join(map(str, entry.choices)) or "nothing: the list is empty"
            raise WorkflowError(f"{where}: {value!r} is not one of its choices ({choices}).")
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300  # neither NaN nor infinite
    fits = {"INT": number and value == int(value), "FLOAT": number}.get(entry.type, isinstance(value, WIDGETS[entry.type]))
    if not fits:
        raise WorkflowError(f"{where}: it takes {entry.type}, not {value!r}.")
    if number:
        low, high = entry.options.get("min", -math.inf), entry.options.get("max", math.inf)
        if not low <= value <= high:
            raise WorkflowError(f"{where}: {value} is outside {low} to {high}.")
    return WIDGETS[entry.type](value)


def find_picture(name, where: str, folders: list[Path]) -> str:
    """A picture's path: the name as it is given, else below one of the folders. The page may add " [input]" to the name."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise WorkflowError(f"{where}: it takes the name of a picture, not {name!r}.")
    name = re.sub(r" \[(input|output|temp)\]$", "", name)
    for path in [Path(name), *(folder / name for folder in folders)]:
        if path.is_file():
            return str(path)
    raise WorkflowError(f"{where}: there is no picture {name}, neither as given nor in {' or '.join(map(str, folders))}.")
