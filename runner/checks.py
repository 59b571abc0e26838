"""Check a prompt for the runner in this process, as ComfyUI does: all of it before any node runs."""

from __future__ import annotations

import inspect
import math
import os
import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from vd_core.foreign import printable

from .errors import WorkflowError
from .graph import WIDGETS, Input, describe_classes, find_file, get_title, name_node

CHOICES = 30  # that a message names
FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".npy")


@dataclass(frozen=True)
class Node:
    """A checked node: its class, its values (pictures as paths that exist), its links {input: (id, slot)}."""

    id: str
    title: str
    cls: Any  # with the attributes that ComfyUI wants of a node class
    values: dict
    links: dict


def check(prompt: dict, classes: dict, picture_folders: list[Path]) -> list[Node]:
    """Return the nodes that the output nodes need, checked, in an order in which they can run.

    picture_folders: where pictures are looked for.
    """
    catalogue = describe_classes(classes)
    inputs = {
        key: catalogue.inputs(node["class_type"], name_node(prompt, key)) for key, node in prompt.items()
    }
    kinds = {key: classes[node["class_type"]] for key, node in prompt.items()}
    waiting = [key for key, cls in kinds.items() if getattr(cls, "OUTPUT_NODE", False)]
    if not waiting:
        raise WorkflowError(
            "The workflow has no output node (SaveImage, PreviewImage, PreviewAny): there is nothing to run."
        )
    nodes = {}
    while waiting:
        key = waiting.pop()
        if key not in nodes:
            nodes[key] = check_node(prompt, key, kinds, inputs[key], picture_folders)
            waiting += [source for source, _ in nodes[key].links.values()]
    sorter = TopologicalSorter(
        {key: [source for source, _ in nodes[key].links.values()] for key in prompt if key in nodes}
    )
    try:
        return [nodes[key] for key in sorter.static_order()]
    except CycleError as error:
        raise WorkflowError(
            f"The workflow runs in a circle: {' -> '.join(name_node(prompt, key) for key in error.args[1])}."
        ) from error


def check_node(
    prompt: dict, key: str, kinds: dict, inputs: dict[str, Input], picture_folders: list[Path]
) -> Node:
    """Check the values and links of one node against its class.

    Inputs that the class does not have are left out, as ComfyUI does.
    """
    values, links, given = {}, {}, prompt[key]["inputs"]
    for name, entry in inputs.items():
        where = f"{name_node(prompt, key)}, input {name}"
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
            where = f"{name_node(prompt, key)}, input {name}"
            values[name] = check_value(value, inputs[name], where, picture_folders)
    if own and (verdict := own(**{name: values.get(name) for name in own_names})) is not True:
        raise WorkflowError(f"{name_node(prompt, key)}: {verdict or 'its inputs do not fit together.'}")
    return Node(key, get_title(prompt[key]), kinds[key], values, links)


def is_link(value) -> bool:
    """Tell whether a value is a link [node id, slot], as ComfyUI does."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def check_link(prompt: dict, link: list, entry: Input, kinds: dict, where: str) -> tuple[str, int]:
    """Return the link, if it comes from an output that exists and has a type that the input takes."""
    source, slot = link
    if source not in prompt:
        raise WorkflowError(f"{where}: it is linked to node {source}, which does not exist.")
    outputs = kinds[source].RETURN_TYPES
    if not 0 <= slot < len(outputs):
        raise WorkflowError(
            f"{where}: it is linked to output {slot} of {name_node(prompt, source)}, which has "
            f"{len(outputs)} outputs."
        )
    kind = outputs[slot] if isinstance(outputs[slot], str) else "COMBO"
    if "*" not in (kind, entry.type) and not set(kind.split(",")) & set(entry.type.split(",")):
        raise WorkflowError(
            f"{where}: it takes {entry.type}, but {name_node(prompt, source)} gives {kind} there."
        )
    return source, slot


def check_value(value, entry: Input, where: str, picture_folders: list[Path]):
    """Return the value as the node gets it: whole numbers as int, a picture's name as its path."""
    if isinstance(value, dict) and set(value) == {"__value__"}:  # how ComfyUI tells a list from a link
        value = value["__value__"]
    if entry.type == "*":
        return value
    if not entry.is_widget:
        raise WorkflowError(
            f"{where}: it takes a link of type {entry.type}, not the value {printable(repr(value))}."
        )
    if entry.options.get("image_upload"):
        return find_picture(value, where, picture_folders)
    if entry.type == "COMBO":
        if value not in entry.choices:
            shown = ", ".join(printable(str(choice)) for choice in entry.choices[:CHOICES])
            more = f" and {len(entry.choices) - CHOICES} more" * (len(entry.choices) > CHOICES)
            folder = os.environ.get("VD_MODELS", "models")
            place = f"; files are looked for in {folder}, and --models names another folder" * str(
                value
            ).endswith(FILES)
            known = f"{shown or 'nothing: the list is empty'}{more}"
            raise WorkflowError(
                f"{where}: {printable(repr(value))} is not one of its choices ({known}){place}."
            )
        return value
    value = convert(value, entry.type)
    # neither NaN nor infinite
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    fits = {"INT": number and value == int(value), "FLOAT": number}.get(
        entry.type, isinstance(value, WIDGETS[entry.type])
    )
    if not fits:
        raise WorkflowError(f"{where}: it takes {entry.type}, not {printable(repr(value))}.")
    if number:
        low, high = entry.options.get("min", -math.inf), entry.options.get("max", math.inf)
        if not low <= value <= high:
            raise WorkflowError(f"{where}: {printable(str(value))} is outside {low} to {high}.")
    if entry.type == "STRING":  # JSON may hold halves of characters, which no tokenizer takes
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return WIDGETS[entry.type](value)


def convert(value, kind: str):
    """Convert what ComfyUI converts without loss: numbers given as text, and numbers where text is wanted."""
    if isinstance(value, str) and kind in ("INT", "FLOAT"):
        try:
            return WIDGETS[kind](value)
        except ValueError:
            return value
    return str(value) if kind == "STRING" and type(value) in (int, float) else value


def find_picture(name, where: str, folders: list[Path]) -> str:
    """Return a picture's path: the first one of its name below the folders.

    The page may add " [input]" to the name.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise WorkflowError(f"{where}: it takes the name of a picture, not {printable(repr(name))}.")
    name = re.sub(r" \[(input|output|temp)\]$", "", name)
    if path := find_file(name, folders):
        return str(path)
    raise WorkflowError(
        f"{where}: there is no picture {printable(name)} in {' or '.join(map(str, folders))}."
    )
