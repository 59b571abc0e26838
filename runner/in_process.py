"""Run workflow files in this process, on the pack's nodes and the few of core's, called as ComfyUI does."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from vd_core.files import check_writable
from vd_core.memory import is_out_of_memory

from .checks import Node, check
from .core_nodes import CORE_NODES
from .errors import JobError
from .graph import describe_classes
from .pack import load_pack
from .prepare import Changes, prepare
from .results import Results


def run_file(workflow: Path, results: Results, changes: Changes, folders: list[Path]) -> None:
    """Read, change, check and run a workflow file, and show what it wrote.

    folders: where input pictures are looked for.

    Raises WorkflowError, OSError for an output folder that takes no files.
    """
    classes = load_classes()
    prompt, canvas = prepare(workflow, describe_classes(classes), changes)
    nodes = check(prompt, classes, folders)
    check_writable(results.output, "--output")
    run(nodes, {"PROMPT": prompt, "EXTRA_PNGINFO": canvas, "OUTPUT_DIRECTORY": str(results.output)}, results)


def load_classes() -> dict[str, type]:
    """Return the classes of nodes that run in this process, by name."""
    return {**CORE_NODES, **load_pack().NODE_CLASS_MAPPINGS}


def run(nodes: list[Node], hidden: dict, results: Results) -> None:
    """Run checked nodes in their order, each once.

    hidden: the values of hidden inputs. Raises JobError "TITLE: sentence".

    Where a result cannot be written, as on a full disk, the other nodes run nevertheless.
    """
    made: dict[str, list[list]] = {}
    unwritten = []
    wired = list_wired_outputs(nodes)
    with torch.inference_mode():
        for node in nodes:
            print(node.title, file=sys.stderr, flush=True)
            try:
                own = {"UNIQUE_ID": node.id, "WIRED_OUTPUTS": ",".join(map(str, wired.get(node.id, ())))}
                made[node.id], shown = run_node(node, made, {**hidden, **own})
                if getattr(node.cls, "OUTPUT_NODE", False):
                    report(node, shown, results)
            except (ValueError, OSError) as error:
                if isinstance(error, ValueError) or node.cls.RETURN_TYPES and node.id not in made:
                    raise JobError(f"{node.title}: {error}") from error
                unwritten.append(f"{node.title}: {error}")
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise JobError(
                    f"{node.title}: There is not enough memory for this; make fewer or smaller pictures at "
                    "once."
                ) from error
    if unwritten:
        raise JobError(" ".join(unwritten))


def list_wired_outputs(nodes: list[Node]) -> dict[str, list[int]]:
    """List by node id the numbers of the outputs that other nodes read, ascending."""
    wired: dict[str, set[int]] = {}
    for node in nodes:
        for source, slot in node.links.values():
            wired.setdefault(source, set()).add(slot)
    return {key: sorted(slots) for key, slots in wired.items()}


def run_node(node: Node, made: dict, hidden: dict) -> tuple[list[list], list[dict]]:
    """Run one node -> (per output slot the list of its values, the `ui` of each call).

    As in ComfyUI every value travels in a list: a node is called once for each item, shorter lists repeat
    their last one, INPUT_IS_LIST takes the lists whole, and an output in OUTPUT_IS_LIST gives a list of its
    own.
    """
    cls = node.cls
    lists = {name: [value] for name, value in node.values.items()}
    lists |= {name: made[source][slot] for name, (source, slot) in node.links.items()}
    lists |= {name: [hidden.get(kind)] for name, kind in cls.INPUT_TYPES().get("hidden", {}).items()}
    if getattr(cls, "INPUT_IS_LIST", False):
        calls = [lists]
    else:
        count = 0 if [] in lists.values() else max(map(len, lists.values()), default=1)
        calls = [
            {name: values[min(i, len(values) - 1)] for name, values in lists.items()} for i in range(count)
        ]
    shown: list[dict] = []
    slots: list[list] = [[] for _ in cls.RETURN_TYPES]
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


def report(node: Node, shown: list[dict], results: Results) -> None:
    """Show the files and the texts of an output node."""
    for ui in shown:
        for image in ui.get("images", ()):
            results.show_file(node.id, node.title, results.output / image["subfolder"] / image["filename"])
    texts = [str(text) for ui in shown for text in ui.get("text", ())]
    if texts:
        results.show_texts(node.id, node.title, texts)
