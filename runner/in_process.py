"""Runs workflow files in this process: the pack's own node classes and the few of core's, called as ComfyUI calls them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from vd_core.files import check_writable
from vd_core.memory import out_of_memory

from .checks import Node, check
from .core_nodes import CORE_NODES
from .graph import WorkflowError, of_classes, prepare
from .pack import load_pack
from .results import write_texts


def run_file(workflow: Path, output: Path, assignments: list[str], seed: int | None, pictures: Path) -> None:
    """Reads, changes, checks and runs a workflow file, and prints what it wrote.

    assignments: NODE.INPUT=VALUE each. pictures: where input pictures are looked for last.
    Raises WorkflowError, OSError for an output folder that takes no files.
    """
    classes = {**CORE_NODES, **load_pack().NODE_CLASS_MAPPINGS}
    prompt, canvas = prepare(workflow, of_classes(classes), assignments, seed)
    nodes = check(prompt, classes, [workflow.resolve().parent, pictures])
    check_writable(output, "--output")
    run(nodes, {"PROMPT": prompt, "EXTRA_PNGINFO": canvas, "OUTPUT_DIRECTORY": str(output)}, output)


def run(nodes: list[Node], hidden: dict, output: Path) -> None:
    """Runs checked nodes in their order, each once. hidden: the values of hidden inputs. Raises WorkflowError "TITLE: sentence".

    Where a result cannot be written, as on a full disk, the other nodes run nevertheless.
    """
    results: dict[str, list[list]] = {}
    unwritten = []
    wired = list_wired_outputs(nodes)
    with torch.inference_mode():
        for node in nodes:
            print(node.title, file=sys.stderr, flush=True)
            try:
                own = {"UNIQUE_ID": node.id, "WIRED_OUTPUTS": ",".join(map(str, wired.get(node.id, ())))}
                results[node.id], shown = run_node(node, results, {**hidden, **own})
                if getattr(node.cls, "OUTPUT_NODE", False):
                    report(node.title, shown, output)
            except (ValueError, OSError) as error:
                if isinstance(error, ValueError) or node.cls.RETURN_TYPES and node.id not in results:
                    raise WorkflowError(f"{node.title}: {error}") from error
                unwritten.append(f"{node.title}: {error}")
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise WorkflowError(
                    f"{node.title}: There is not enough memory for this; make fewer or smaller pictures at once."
                ) from error
    if unwritten:
        raise WorkflowError(" ".join(unwritten))


def list_wired_outputs(nodes: list[Node]) -> dict[str, list[int]]:
    """List by node id the numbers of the outputs that other nodes read, ascending."""
    wired: dict[str, set[int]] = {}
    for node in nodes:
        for source, slot in node.links.values():
            wired.setdefault(source, set()).add(slot)
    return {key: sorted(slots) for key, slots in wired.items()}


def run_node(node: Node, results: dict, hidden: dict) -> tuple[list[list], list[dict]]:
    """One node -> (per output slot the list of its values, the `ui` of each call).

    As in ComfyUI every value travels in a list: a node is called once for each item, shorter lists repeat their last one,
    INPUT_IS_LIST takes the lists whole, and an output in OUTPUT_IS_LIST gives a list of its own.
    """
    cls = node.cls
    lists = {name: [value] for name, value in node.values.items()}
    lists |= {name: results[source][slot] for name, (source, slot) in node.links.items()}
    lists |= {name: [hidden.get(kind)] for name, kind in cls.INPUT_TYPES().get("hidden", {}).items()}
    if getattr(cls, "INPUT_IS_LIST", False):
        calls = [lists]
    else:
        count = 0 if [] in lists.values() else max(map(len, lists.values()), default=1)
        calls = [{name: values[min(i, len(values) - 1)] for name, values in lists.items()} for i in range(count)]
    slots, shown = [[] for _ in cls.RETURN_TYPES], []
    is_list = getattr(cls, "OUTPUT_IS_LIST", (False,) * len(slots))
    execute = getattr(cls(), cls.FUNCTION)
    for call in calls:
        answer = execute(**call)
        if isinstance(answer, dict):
            shown.append(answer.get("ui", {}))
            answer = answer.get("result", ())
        for slot, value, many in zip(slots, answer or (), is_list, strict=False):
            slot.extend(value if many else [value])
    return slots, shown


def report(title: str, shown: list[dict], output: Path) -> None:
    """Prints the paths of pictures; prints texts and writes them to one file beside the pictures."""
    for ui in shown:
        for image in ui.get("images", ()):
            print(output / image["subfolder"] / image["filename"], flush=True)
    texts = [str(text) for ui in shown for text in ui.get("text", ())]
    if texts:
        write_texts(title, texts, output)
