"""Any files that make up a model -> one safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..config import VDConfig
from ..files import check_target, explain
from .layouts import CONVERTED, STABLE_DIFFUSION
from .load import Paths, build_empty, choose, locate_vocabularies, open_checkpoints, read_parts
from .lora import read_lora
from .lora_changes import merge_change
from .vocabularies import explain_missing, to_tensors
from .write import export, make_metadata, write_safetensors


def convert(
    paths: Paths,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    vocabularies: str | Path | None = None,
    layout: str = "vd_core",
    config: VDConfig | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    overwrite: bool = False,
) -> list[str]:
    """Write all parts of the given files as one file, checked as strictly as for loading; returns what was
    written.

    dtype: of the floating point weights, None = as they are.
    layout: "vd_core", or another one of `layouts.CONVERTED`. "official" turns a Stable Diffusion 1 diffuser
            into one of Prompt-Free Diffusion, "stable_diffusion" turns it back (`stable_diffusion_unet`).
    vocabularies: folder with Optimus' vocabularies, put into a file of our own layout; if None, those found
                  as for loading, or none.
    loras:  (file, strength) of each LoRA to be added to the weights of the diffuser and the text encoder.
    overwrite: replace a file that is there; one of the given files is replaced without it.

    Raises ValueError for LoRAs where there is nothing that they change, or with the layout
    "stable_diffusion", for vocabularies with another layout than our own, and what `check_out` raises.
    """
    if loras and layout == STABLE_DIFFUSION.name:
        raise ValueError(
            f"A LoRA cannot be added in the layout {layout}: convert to a file of our own layout with it "
            "first."
        )
    if vocabularies and layout != "vd_core":
        raise ValueError(f"Vocabularies go into files of our own layout only, not into one of {layout}.")
    check_out(paths, Path(out), overwrite)  # before the work, which would be for nothing
    if layout == STABLE_DIFFUSION.name:
        write_safetensors(out, stable_diffusion_unet(paths, config), {"format": "pt"}, dtype)
        return ["diffuser"]
    checkpoints, config = open_checkpoints(paths, config, CONVERTED)
    sources = choose(checkpoints, config, None)
    model = build_empty(checkpoints, config, sources)
    tensors = read_parts(sources, model)
    for path, strength in loras:
        diffuser = model.parts.get("diffuser")
        text_tower = model.clip.text_tower if "clip" in model.parts else None
        if diffuser is None and text_tower is None:
            raise ValueError(f"{path} changes a diffuser or its text encoder, and these files have neither.")
        for layer, change in read_lora(path, diffuser, text_tower).items():
            weight = tensors[f"{layer}.weight"]
            tensors[f"{layer}.weight"] = merge_change(weight.float() if dtype else weight, change, strength)
    if layout != "vd_core":
        write_safetensors(out, export(tensors, layout, config), {"format": "pt"}, dtype)
        return list(sources)
    found, folders = locate_vocabularies(checkpoints, config, vocabularies)
    if found is None and vocabularies:
        raise FileNotFoundError(explain_missing(folders))
    if "text_vae" not in sources and not vocabularies:
        found = None
    write_safetensors(out, tensors | (to_tensors(found) if found else {}), make_metadata(config), dtype)
    return [*sources, *(["vocabularies"] if found else [])]


def check_out(paths: Paths, out: Path, overwrite: bool) -> None:
    """Raise OSError or ValueError for what must not be written: a user who forgets OUT names another file
    last.
    """
    with explain(out):
        check_target(out)
    if out.suffix.lower() != ".safetensors":
        raise ValueError(f"{out} does not end in .safetensors: give the name of the new file last.")
    inputs = [paths] if isinstance(paths, str | Path) else paths
    if out.exists() and not overwrite and out.resolve() not in [Path(path).resolve() for path in inputs]:
        raise FileExistsError(
            f"{out} is there already: give the name of the new file last, or --overwrite (in Python "
            "overwrite=True) to replace this one."
        )


def stable_diffusion_unet(paths: Paths, config: VDConfig | None = None) -> dict[str, Tensor]:
    """Read the diffuser of pictures under Stable Diffusion 1's names, `model.diffusion_model.…`; tensors are
    as the files hold them.

    paths:  a diffuser of Prompt-Free Diffusion, whose one context may be called "text" or "image". Of files
            with several contexts the text one is taken.
    config: as for `load`.

    Raises FileNotFoundError and ValueError, as `load` does, for anything that does not fit.
    """
    checkpoints, config = open_checkpoints(paths, config, CONVERTED)
    kinds = {
        kind
        for kind in config.diffuser.context
        for checkpoint in checkpoints
        if f"diffuser.context.{kind}" in checkpoint.keys
    }
    kind = kinds.pop() if len(kinds) == 1 else "text"
    sources = choose(checkpoints, config, ["diffuser.data.image", f"diffuser.context.{kind}"])
    tensors = read_parts(sources, build_empty(checkpoints, config, sources))
    renamed = {
        key.replace(f"diffuser.context.{kind}.", "diffuser.context.text."): tensor
        for key, tensor in tensors.items()
    }
    return export(renamed, STABLE_DIFFUSION.name, config)
