"""Make a workflow file ready to run: read it, change it as the command line says, fill in file names."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from vd_core.files import leads_out
from vd_core.foreign import printable

from .errors import WorkflowError
from .graph import EXAMPLE, Catalogue, convert_canvas, get_title, name_node, set_input, set_seed
from .workflow_file import is_canvas, read

LOAD_CONTEXT = "VD_LoadContext"
DATE = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
UNSAFE = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')  # in the name of a file


@dataclass(frozen=True)
class Changes:
    """What the command line changes in a workflow.

    assignments: NODE.INPUT=VALUE each. seed: of every node that has one. pictures: a folder that input
    pictures, and contexts, are taken from first.
    """

    assignments: Sequence[str] = ()
    seed: int | None = None
    pictures: Path | None = None


def prepare(workflow: Path, catalogue: Catalogue, changes: Changes) -> tuple[dict, dict]:
    """Read a workflow file and change it as the command line says -> (prompt, {"workflow": canvas} or {})."""
    prompt, canvas = read(workflow), {}
    if is_canvas(prompt):
        twin = find_twin(workflow)
        hint = str(twin) if twin else "its export in API format"
        prompt, canvas = convert_canvas(prompt, catalogue, hint), {"workflow": prompt}
    for key, node in prompt.items():
        catalogue.inputs(node["class_type"], name_node(prompt, key))
    if changes.seed is not None and not set_seed(prompt, catalogue, changes.seed):
        print("--seed: no node of this workflow has a seed", file=sys.stderr)
    changed = {set_input(prompt, catalogue, assignment) for assignment in changes.assignments}
    pictures = list(find_pictures(prompt, catalogue))
    contexts = [node for node in prompt.values() if node["class_type"] == LOAD_CONTEXT]
    if changes.pictures is not None and not pictures and not contexts:
        refuse_folder(prompt)
    for key, name in pictures:
        if (key, name) not in changed:
            check_inside(prompt, key, name)
    expand_names(prompt, datetime.now())
    return prompt, canvas


def find_twin(workflow: Path) -> Path | None:
    """Find the API twin of one of this pack's canvas files.

    It lies in `api`, beside it or beside its folder, without the number of its name.
    """
    name = re.sub(r"^\d\d-", "", workflow.name)
    folders = workflow.parent, workflow.parent.parent
    return next((folder / "api" / name for folder in folders if (folder / "api" / name).is_file()), None)


def find_pictures(prompt: dict, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yield (node id, input) of the inputs that name a picture."""
    for key, node in prompt.items():
        for name, entry in catalogue.inputs(node["class_type"], name_node(prompt, key)).items():
            if entry.options.get("image_upload"):
                yield key, name


def refuse_folder(prompt: dict) -> NoReturn:
    """Raise WorkflowError for a folder of pictures that the workflow does not read."""
    examples = [get_title(node).split(" · ")[0] for node in prompt.values() if node["class_type"] == EXAMPLE]
    cure = f"; --set {examples[0]}.image=FILE puts a picture in place of the example" if examples else ""
    raise WorkflowError(f"--input: no node of this workflow reads a picture or a context{cure}.")


def check_inside(prompt: dict, key: str, name: str) -> None:
    """Raise WorkflowError for a picture that leads out of the folders where pictures lie.

    The workflow may be a stranger's; who types the command may name any file.
    """
    value = prompt[key]["inputs"].get(name)
    if isinstance(value, str) and leads_out(value):
        raise WorkflowError(
            f"{name_node(prompt, key)}, input {name}: {printable(repr(value))} leads out of the folders of "
            f"pictures; if it is meant, say so on the command line: --set {key}.{name}=PATH."
        )


def expand_names(prompt: dict, now: datetime) -> None:
    """Fill in %date:FORMAT% and %NODE.INPUT% in the names of files to be saved, as ComfyUI's page does."""

    def replace(found: re.Match) -> str:
        what, text = found[1], found[0]
        if what.startswith("date:"):
            return DATE.sub(lambda part: format_date(part[0], now), what.removeprefix("date:"))
        title, dot, name = what.partition(".")
        nodes = [node for node in prompt.values() if title in (get_title(node), node["class_type"])]
        value = nodes[0]["inputs"].get(name) if dot and len(nodes) == 1 else None
        return text if value is None or isinstance(value, (list, dict)) else UNSAFE.sub("_", str(value))

    for node in prompt.values():
        prefix = node["inputs"].get("filename_prefix")
        if isinstance(prefix, str):
            node["inputs"]["filename_prefix"] = re.sub("%([^%]+)%", replace, prefix)


def format_date(part: str, now: datetime) -> str:
    """Format yyyy or yy, or M, d, h, m, s with or without a leading zero, as ComfyUI's page does."""
    if part[0] == "y":
        return {"yy": f"{now.year:04}"[2:], "yyyy": f"{now.year:04}"}.get(part, part)
    value = {"M": now.month, "d": now.day, "h": now.hour, "m": now.minute, "s": now.second}[part[0]]
    return f"{value:0{len(part)}}"
