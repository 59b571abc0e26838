"""What files hold: layouts, parts, sizes, and which flows they are enough for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..config import VDConfig
from .key_maps import to_ours
from .load import Checkpoint, Paths, build_empty, locate_vocabularies, open_checkpoints, read_part
from .parts import collect_state, list_flow_parts, list_parts
from .published import list_published


def inspect(paths: Paths, config: VDConfig | None = None) -> dict[str, Any]:
    """Describe one or several files that make up a model, as plain data; tensors are not read beyond what the
    checks need.

    files:  per file its path, layout, and parts: parameters, dtypes, and faults (sentences; empty if the part
            can be loaded).
    config: the sizes that the files carry, else those of Versatile Diffusion v1.0.
    vocabularies: whether those of the text autoencoder are in the files, beside them or in the local cache.
    flows:  "CONTEXT-to-OUTPUT" -> the parts that are missing for it.
    """
    checkpoints, config = open_checkpoints(paths, config)
    empty = collect_state(
        build_empty(checkpoints, config, {part for checkpoint in checkpoints for part in checkpoint.keys})
    )
    files = [describe(checkpoint, config, empty) for checkpoint in checkpoints]
    usable = {part for file in files for part, details in file["parts"].items() if not details["faults"]}
    vocabularies, _ = locate_vocabularies(checkpoints, config, None)
    flows = {}
    for data in config.diffuser.data:
        for context in config.diffuser.context:
            needed = list_flow_parts(data, context)
            missing = [part for part in needed if part not in usable]
            flows[f"{context}-to-{data}"] = missing + (
                ["vocabularies"] if "text_vae" in needed and vocabularies is None else []
            )
    return {
        "files": files,
        "config": config.to_dict(),
        "vocabularies": vocabularies is not None,
        "flows": flows,
    }


def describe(checkpoint: Checkpoint, config: VDConfig, empty: dict[str, Tensor]) -> dict[str, Any]:
    """Describe one file as plain data."""
    parts = {}
    for part in list_parts(config):
        if part in checkpoint.keys:
            places = {key: places[0] for key, places in checkpoint.keys[part].items()}
            tensors = [to_ours(place.change, checkpoint.file.weights[place.key]) for place in places.values()]
            parts[part] = {
                "parameters": sum(tensor.numel() for tensor in tensors),
                "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}),
                "faults": read_part(checkpoint, part, empty)[1],
            }
    return {
        "path": str(checkpoint.file.path),
        "layout": checkpoint.layout.name,
        "title": checkpoint.layout.title,
        "parts": parts,
    }


def write_report(report: dict[str, Any]) -> str:
    """Return the report for people."""
    lines = []
    for file in report["files"]:
        lines.append(f"{file['path']}: {file['title']}")
        for part, details in file["parts"].items():
            lines.append(
                f"  {part:24}{details['parameters']:>15,} parameters  {', '.join(details['dtypes'])}"
            )
            lines += [f"    does not fit: {fault}" for fault in details["faults"]]
    lines.append("sizes")
    for name, sizes in report["config"].items():
        lines.append(f"  {name}: " + ", ".join(f"{key} {write_size(value)}" for key, value in sizes.items()))
    lines.append(
        f"vocabularies of the text autoencoder: {'found' if report['vocabularies'] else 'not found'}"
    )
    lines.append("flows")
    for flow, missing in report["flows"].items():
        lines.append(f"  {flow}: " + (f"needs also {', '.join(missing)}" if missing else "complete"))
    absent = {part for missing in report["flows"].values() for part in missing}
    lines += [f"published: {file}" for file in list_published(sorted(absent))]
    return "\n".join(lines)


def write_size(value: Any) -> str:
    """Return a size, or nested sizes, on one line."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {write_size(one)}" for key, one in value.items()) + ")"
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
