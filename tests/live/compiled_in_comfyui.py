"""Inside ComfyUI: MODELs under the function behind core's node TorchCompileModel, which compiles what core calls at every step.

usage: compiled_in_comfyui.py COMFYUI_ARGUMENTS…    (ComfyUI on PYTHONPATH; a base directory of its own)
What torch captures is run as it is: its compiler would take minutes. Prints JSON {flow: [difference to the plain MODEL, graphs captured
for the first size, graphs for all]}.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACK = "vd_compiled_pack"


def part(name: str):
    """A module of the pack."""
    return importlib.import_module(f"{PACK}.{name}")


def load_pack() -> None:
    """The pack as ComfyUI imports it."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def measure(data: str, shapes: list[tuple[int, ...]]) -> tuple[float, int, int]:
    """Two steps of core's KSampler with both contexts, at each of these sizes."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    import nodes as core

    plain = part("nodes.host.comfyui.files").load_flow(part("vd_core.embedded").MODEL, data, "all", "fp32")
    graphs, first, found = [], 0, 0.0
    compiled, sizes = plain.clone(), plain.model.vd_config
    set_torch_compile_wrapper(compiled, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    generator, context = torch.Generator().manual_seed(1), part("vd_core.context").Context
    rows = {kind: torch.randn(2, 5, sizes.diffuser.context[kind], generator=generator).split(1) for kind in ("text", "image")}
    pair = part("nodes.layout").to_conditioning([context(kind, *tokens, weight=0.5) for kind, tokens in rows.items()])
    for shape in shapes:
        ours, expected = (
            core.KSampler().sample(model, 7, 2, 2.0, "euler", "normal", *pair, {"samples": torch.zeros(shape)})[0]["samples"]
            for model in (compiled, plain)
        )
        first = first or len(graphs)
        found = max(found, float((ours - expected).norm() / expected.norm()))
    return found, first, len(graphs)


if __name__ == "__main__":
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils
    import folder_paths  # noqa: F401  the pack looks whether it is there

    comfy.utils.PROGRESS_BAR_ENABLED = False
    load_pack()
    with torch.inference_mode():
        result = {"text": measure("text", [(1, 64, 1, 1)]), "image": measure("image", [(1, 16, 8, 8), (2, 16, 8, 12)])}
    print(json.dumps(result))
