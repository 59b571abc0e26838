"""Workflow files: read, convert from the canvas format, and change. Standard library only.

A prompt is ComfyUI's API format: {id: {"class_type", "inputs", "_meta": {"title"}}}, where an input is a
value or a link [id, slot].

Every function raises WorkflowError, one sentence, for what the user can put right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vd_core.foreign import printable

from .errors import WorkflowError

WIDGETS = {"INT": int, "FLOAT": float, "BOOLEAN": bool, "STRING": str, "COMBO": object}
SEEDS = ("seed", "noise_seed")
SEED_CONTROLS = ("fixed", "increment", "decrement", "randomize")
NOTES = ("Note", "MarkdownNote")
CANVAS_ONLY = ("Reroute", "PrimitiveNode")
MODES = {2: "muted", 4: "bypassed"}
EXAMPLE, OWN_PICTURE = "VD_ExamplePicture", "LoadImage"  # the second may take the place of the first


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
    absent: what a message says, after the node's title, of a class that is not there; {name} is the class.
    """

    types: dict[str, dict]
    absent: str

    def inputs(self, name: str, title: str) -> dict[str, Input]:
        """Return the inputs of a class in their order on the canvas, hidden ones left out.

        title: how messages call the node.
        """
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


def describe_classes(classes: dict) -> Catalogue:
    """Return the catalogue of the classes that run in this process."""
    absent = (
        "needs ComfyUI itself: no node of this pack and none of the stand-ins here is called {name}; run the "
        "workflow with --comfyui PATH or --server URL."
    )
    return Catalogue({name: cls.INPUT_TYPES() for name, cls in classes.items()}, absent)


def get_title(node: dict) -> str:
    """Return the title of an API-format node, else its class, as it can be printed."""
    meta = node.get("_meta")
    return printable(
        str(meta.get("title") or node["class_type"]) if isinstance(meta, dict) else node["class_type"]
    )


def name_node(prompt: dict, node_id: str) -> str:
    """Return how messages name a node."""
    return f"{get_title(prompt[node_id])} (node {printable(node_id)})"


def find_file(name: str, folders: list[Path]) -> Path | None:
    """Find the first file of this name below the folders."""
    if len(name.encode("utf-8", "replace")) > 4000:  # longer than any path; systems refuse even to look
        return None
    try:
        return next((path for path in (folder / name for folder in folders) if path.is_file()), None)
    except OSError:  # a name that is too long
        return None


# Canvas format -> API format


def convert_canvas(canvas: dict, catalogue: Catalogue, twin: str) -> dict:
    """Convert a canvas file to a prompt.

    twin: how messages name the API-format file to use where the canvas does not say enough.
    """
    try:
        subgraphs = {graph["id"] for graph in canvas.get("definitions", {}).get("subgraphs", [])}
        sources = dict(read_link(link) for link in canvas["links"])
        prompt = {}
        for node in canvas["nodes"]:
            name, title = node["type"], printable(str(node.get("title") or node["type"]))
            if name in NOTES:
                continue
            if node.get("mode") in MODES:
                raise WorkflowError(
                    f"{title} is {MODES[node['mode']]}, which only ComfyUI's canvas resolves: use {twin} "
                    "instead."
                )
            if name in CANVAS_ONLY or name in subgraphs:
                raise WorkflowError(f"{title} exists only on ComfyUI's canvas: use {twin} instead.")
            inputs = read_widgets(node, title, catalogue.inputs(name, title), twin)
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
            f"The canvas file is damaged ({type(error).__name__}: {printable(str(error))}): use {twin} "
            "instead."
        ) from error
    if not prompt:
        raise WorkflowError("The workflow has no nodes.")
    return prompt


def read_link(link) -> tuple:
    """Read a row of the links table: a list, in newer files a dict -> (link id, [node id, slot])."""
    if isinstance(link, dict):
        return link["id"], [str(link["origin_id"]), link["origin_slot"]]
    return link[0], [str(link[1]), link[2]]


def read_widgets(node: dict, title: str, inputs: dict[str, Input], twin: str) -> dict:
    """Return the values of a canvas node by name.

    They lie in widgets_values in schema order, with the extra widgets that the page adds.
    """
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
            f"{title} has {len(values)} widget values, but its class does not have that many widgets: use "
            f"{twin} instead."
        )
    return named


def describe_inputs(prompt: dict, catalogue: Catalogue) -> Iterator[dict]:
    """Yield what `--set` can change: node, title, class, input, type, value, and choices or range if any."""
    for key, node in prompt.items():
        for name, entry in catalogue.inputs(node["class_type"], name_node(prompt, key)).items():
            if entry.is_widget:
                value = node["inputs"].get(name, entry.options.get("default"))
                about = {"node": key, "title": get_title(node), "class": node["class_type"], "input": name}
                about |= {"type": entry.type, "value": None if isinstance(value, list) else value}
                about |= {"linked": True} if isinstance(value, list) else {}
                about |= {"choices": entry.choices} if entry.choices else {}
                yield about | {side: entry.options[side] for side in ("min", "max") if side in entry.options}
        if node["class_type"] == EXAMPLE:
            about = {"node": key, "title": get_title(node), "class": EXAMPLE, "input": "image"}
            yield about | {"type": "a picture of yours in its place", "value": None}


# Changes from the command line


def set_seed(prompt: dict, catalogue: Catalogue, seed: int) -> int:
    """Set every input called seed or noise_seed, linked ones too; returns how many."""
    count = 0
    for node in prompt.values():
        for name in catalogue.inputs(node["class_type"], get_title(node)):
            if name in SEEDS:
                node["inputs"][name] = seed
                count += 1
    return count


def set_input(prompt: dict, catalogue: Catalogue, assignment: str) -> tuple[str, str]:
    """Apply NODE.INPUT=VALUE -> (node id, input). VALUE is read as the input's type.

    NODE is an id, or a title that only one node has: the whole of it, or what stands before " · " ("Prompt"
    of "Prompt · Text Context"). `image` of an Example Picture puts a picture of one's own in its place.
    """
    target, equals, text = assignment.partition("=")
    node_name, dot, name = target.rpartition(".")
    if not (equals and dot and node_name and name):
        raise WorkflowError(f"--set {assignment} must have the form NODE.INPUT=VALUE.")
    found = [node_name] if node_name in prompt else find_by_title(prompt, node_name)
    if not found:
        known = ", ".join(name_node(prompt, key) for key in prompt)
        raise WorkflowError(
            f"--set {assignment}: no node has the id or title {node_name}; there are {known}."
        )
    if len(found) > 1:
        raise WorkflowError(
            f"--set {assignment}: nodes {', '.join(found)} are all called {node_name}, so use an id."
        )
    node = prompt[found[0]]
    if node["class_type"] == EXAMPLE and name == "image":
        load_own_picture(node)
    inputs = catalogue.inputs(node["class_type"], get_title(node))
    widgets = {key: entry for key, entry in inputs.items() if entry.is_widget}
    if name not in widgets:
        raise WorkflowError(
            f"--set {assignment}: {name_node(prompt, found[0])} has no value {name}, only "
            f"{', '.join(widgets) or 'links'}."
        )
    node["inputs"][name] = parse_value(text, widgets[name], f"--set {assignment}")
    return found[0], name


def load_own_picture(example: dict) -> None:
    """Turn an Example Picture into a Load Image: both give a picture and a mask."""
    title = get_title(example).replace("Example Picture", "Load Image")
    example |= {"class_type": OWN_PICTURE, "inputs": {}, "_meta": {"title": title}}


def find_by_title(prompt: dict, title: str) -> list[str]:
    """Return the ids of the nodes with a title, whole or before " · "."""
    return [
        key for key, node in prompt.items() if title in (get_title(node), get_title(node).split(" · ")[0])
    ]


def parse_value(text: str, entry: Input, where: str):
    """Read text of the command line as a value of an input's type; ranges and choices are left to `check`."""
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
