"""Runs a ComfyUI workflow file with this pack's nodes, without ComfyUI.

    python run_workflow.py workflows/api/NAME.json --set "Prompt.text=a red apple, flat style" --seed 7 --output pictures
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from pathlib import Path

from nodes.host import graph

ROOT = Path(__file__).resolve().parent
PACKAGE = "versatile_diffusion_pack"  # ComfyUI too loads packs under a name of its own making


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run a workflow file with this pack's nodes, without ComfyUI.")
    parser.add_argument("workflow", type=Path, metavar="WORKFLOW.json", help="API format, or canvas format where it says enough")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="NODE: id or title; may be given often")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="where files are written (default: ./output)")
    parser.add_argument("--seed", type=int, metavar="N", help="sets every input called seed or noise_seed")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder with the model files")
    return parser.parse_args(argv)


def load_pack(root: Path = ROOT) -> dict:
    """NODE_CLASS_MAPPINGS of the pack in a folder, imported as ComfyUI imports it. Raises WorkflowError where a library is missing."""
    spec = importlib.util.spec_from_file_location(PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(PACKAGE):
            raise
        raise graph.WorkflowError(f"{error}; install what {ROOT / 'requirements.txt'} names.") from error
    return module.NODE_CLASS_MAPPINGS


def known_classes() -> dict:
    """Every node class that runs here: the pack's own and the stand-ins for core's."""
    own = load_pack()
    from nodes.host.stand_ins import STAND_INS  # imports torch, so only once the file has proved readable

    return {**STAND_INS, **own}


def prepare(args: argparse.Namespace) -> tuple[dict, list[graph.Node], dict]:
    """The command line -> the prompt, its checked nodes in running order, and what else goes into the pictures' text chunks."""
    data = graph.read(args.workflow)
    if args.output.exists() and not args.output.is_dir():
        raise graph.WorkflowError(f"--output {args.output} is a file, not a folder.")
    if args.models:
        if not args.models.is_dir():
            raise graph.WorkflowError(f"--models {args.models} is not a folder.")
        os.environ["VD_MODELS"] = str(args.models.resolve())
    classes = known_classes()
    prompt, extra = data, {}
    if graph.is_canvas(data):
        prompt, extra = graph.from_canvas(data, classes, f"workflows/api/{args.workflow.name}"), {"workflow": data}
    if args.seed is not None and not graph.set_seed(prompt, classes, args.seed):
        print("--seed: no node of this workflow has a seed", file=sys.stderr)
    for assignment in args.set:
        graph.set_input(prompt, classes, assignment)
    nodes = graph.check(prompt, classes, [args.workflow.resolve().parent, ROOT / "workflows" / "input"])
    return prompt, nodes, extra


def run(nodes: list[graph.Node], hidden: dict, output: Path) -> None:
    """Runs checked nodes in their order, each once, and reports what they wrote. Raises WorkflowError "TITLE: sentence"."""
    import torch

    results: dict[str, list[list]] = {}
    with torch.inference_mode():
        for node in nodes:
            print(f"{node.title} …", file=sys.stderr, flush=True)
            try:
                results[node.id], shown = run_node(node, results, hidden)
                report(node.title, shown, output)
            except (ValueError, OSError) as error:
                raise graph.WorkflowError(f"{node.title}: {error}") from error


def run_node(node: graph.Node, results: dict, hidden: dict) -> tuple[list[list], list[dict]]:
    """One node -> (per output slot the list of its values, the `ui` of each call).

    As in ComfyUI every value travels in a list: a node is called once for each item, shorter lists repeat their last one,
    INPUT_IS_LIST takes the lists whole, and an output in OUTPUT_IS_LIST gives a list of its own.
    """
    cls = node.cls
    lists = {name: [value] for name, value in node.values.items()}
    lists |= {name: results[source][slot] for name, (source, slot) in node.links.items()}
    lists |= {name: [{**hidden, "UNIQUE_ID": node.id}.get(kind)] for name, kind in cls.INPUT_TYPES().get("hidden", {}).items()}
    if getattr(cls, "INPUT_IS_LIST", False):
        calls = [lists]
    else:
        count = 0 if [] in lists.values() else max(map(len, lists.values()), default=1)
        calls = [{name: values[min(i, len(values) - 1)] for name, values in lists.items()} for i in range(count)]
    slots = [[] for _ in cls.RETURN_TYPES]
    is_list = getattr(cls, "OUTPUT_IS_LIST", (False,) * len(slots))
    execute, shown = getattr(cls(), cls.FUNCTION), []
    for call in calls:
        answer = execute(**call)
        if isinstance(answer, dict):
            shown.append(answer.get("ui", {}))
            answer = answer.get("result", ())
        for slot, value, many in zip(slots, answer or (), is_list, strict=False):
            slot.extend(value) if many else slot.append(value)
    return slots, shown


def report(title: str, shown: list[dict], output: Path) -> None:
    """Prints the paths of pictures; prints texts and writes them to one file beside the pictures."""
    for ui in shown:
        for image in ui.get("images", ()):
            print(output / image["subfolder"] / image["filename"], flush=True)
    texts = [str(text) for ui in shown for text in ui.get("text", ())]
    if texts:
        from nodes.host.stand_ins import numbered

        path = numbered(output, re.sub(r"[^\w-]+", "-", title).strip("-") or "text", ".txt")
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        print(*texts, path, sep="\n", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, 1 with one sentence on stderr, 130 when interrupted."""
    args = arguments(argv)
    try:
        prompt, nodes, extra = prepare(args)
        hidden = {"PROMPT": prompt, "EXTRA_PNGINFO": extra, "OUTPUT_DIRECTORY": str(args.output)}
        run(nodes, hidden, args.output)
    except (graph.WorkflowError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character must not stop the run
    sys.exit(main())
