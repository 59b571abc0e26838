"""Tell nodes which of their outputs have a wire, so that a loader reads no more than a graph uses."""

from __future__ import annotations

from server import PromptServer

from .folders import register_folders

LOADER = "VD_Load"


def mark_wired_outputs(request: dict) -> dict:
    """Write into each loader of a queued prompt which of its outputs are wired, as its hidden input `wired`:
    "0,2".

    A value in the prompt is part of what core caches results by, so a new wire makes the loader run again.
    """
    prompt = request.get("prompt")
    if isinstance(prompt, dict):
        nodes = {
            key: node
            for key, node in prompt.items()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        }
        links = [
            link
            for node in nodes.values()
            for link in node["inputs"].values()
            if isinstance(link, list) and len(link) == 2
        ]
        for key, node in nodes.items():
            if node.get("class_type") == LOADER:
                slots = {slot for source, slot in links if source == key and isinstance(slot, int)}
                node["inputs"]["wired"] = ",".join(map(str, sorted(slots)))
    return request


def register() -> None:
    """Tell ComfyUI of our folders of models, and have it pass queued prompts through `mark_wired_outputs`.

    Where there is no server, as in programs that use ComfyUI as a library, the loader reads all parts.
    """
    register_folders()
    if getattr(PromptServer, "instance", None) is not None:
        PromptServer.instance.add_on_prompt_handler(mark_wired_outputs)
