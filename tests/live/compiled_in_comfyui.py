"""Inside ComfyUI: MODELs under the function behind core's node TorchCompileModel, which compiles what core
calls at every step.

usage: compiled_in_comfyui.py COMFYUI_ARGUMENTS…    (PYTHONPATH: see pack_in_comfyui.py)
What torch captures is run as it is: its compiler would take minutes. Prints JSON {flow: [difference to the
plain MODEL, graphs captured for the first size, graphs for all]}.
"""

from __future__ import annotations

import json
import sys

import torch
from pack_in_comfyui import difference, part, start


def measure(data: str, shapes: list[tuple[int, ...]]) -> tuple[float, int, int]:
    """Two steps of core's KSampler with both contexts, at each of these sizes."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    import nodes as core

    plain = part("nodes.host.comfyui.files").load_flow(part("vd_core.embedded").MODEL, data, "all", "fp32")
    graphs, first, found = [], 0, 0.0
    compiled, sizes = plain.clone(), plain.model.vd_config
    set_torch_compile_wrapper(compiled, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    generator, context = torch.Generator().manual_seed(1), part("vd_core.context").Context
    rows = {
        kind: torch.randn(2, 5, sizes.diffuser.context[kind], generator=generator)
        for kind in ("text", "image")
    }
    rows["image"] /= rows["image"].norm(dim=-1, keepdim=True)  # as CLIP's are
    pair = part("nodes.conditioning").to_conditioning(
        [context(kind, *tokens.split(1), weight=0.5) for kind, tokens in rows.items()]
    )
    for shape in shapes:
        ours, expected = (
            core.KSampler().sample(
                model, 7, 2, 2.0, "euler", "normal", *pair, {"samples": torch.zeros(shape)}
            )[0]["samples"]
            for model in (compiled, plain)
        )
        first = first or len(graphs)
        found = max(found, difference(ours, expected))
    return found, first, len(graphs)


if __name__ == "__main__":
    start(sys.argv[1:])
    with torch.inference_mode():
        result = {
            "text": measure("text", [(1, 64, 1, 1)]),
            "image": measure("image", [(1, 16, 8, 8), (2, 16, 8, 12)]),
        }
    print(json.dumps(result))
