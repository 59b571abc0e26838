"""ComfyUI's folders of models: which files of a role there are, and where results are written."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ....seecoder.embedded import MODEL as EMBEDDED_SEECODER
from ....vd_core.embedded import LORAS, MODEL
from ....vd_core.files import resolve_inside
from ...choices import EMBEDDED, EXAMPLES
from .version import warn_of_old_core

OWN_FOLDER, SEECODER_FOLDER = "versatile_diffusion", "seecoder"
FOLDERS = {  # where users may have files of each role already
    "model": (OWN_FOLDER, "checkpoints", "diffusion_models"),
    "clip": (OWN_FOLDER, "text_encoders"),
    "clip_vision": (OWN_FOLDER, "clip_vision"),
    "vae": (OWN_FOLDER, "vae"),
    "text_vae": (OWN_FOLDER,),
    "seecoder": (SEECODER_FOLDER,),
    "pfd": (OWN_FOLDER, "diffusion_models", "checkpoints"),
    "context": (OWN_FOLDER, SEECODER_FOLDER),
    "lora": ("loras",),
}
CONTEXT_ENDINGS = (".safetensors", ".npy", ".pt", ".pth")


def register_folders() -> None:
    """Make our folders in models/ known to ComfyUI. Entries of extra_model_paths.yaml and of other packs
    stay."""
    warn_of_old_core()
    # Other packs look for SeeCoder in either of the last two.
    for name, folder in (
        (OWN_FOLDER, OWN_FOLDER),
        (SEECODER_FOLDER, "seecoder"),
        (SEECODER_FOLDER, "seecoders"),
    ):
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, folder))
        folder_paths.folder_names_and_paths[name][1].update(folder_paths.supported_pt_extensions)
    folder_paths.add_model_folder_path("loras", str(LORAS))


def file_names(role: str) -> list[str]:
    """Return the files that may be of a role (a key of FOLDERS)."""
    names = [name for folder in FOLDERS[role] for name in folder_paths.get_filename_list(folder)]
    if role == "context":
        inputs = [
            name
            for folder in context_folders()
            for name in sorted(os.listdir(folder))
            if name.endswith(CONTEXT_ENDINGS)
        ]
        names = [*inputs, *names]
    return list(dict.fromkeys(names))


def context_folders() -> list[str]:
    """List where contexts lie besides the folders of models: ComfyUI's input folder, and the examples of this
    pack."""
    return [folder_paths.get_input_directory(), str(EXAMPLES)]


def diffuser_names() -> list[str]:
    """List the files that may hold Versatile Diffusion's diffuser: all of its own folder, then those
    elsewhere that look like it."""
    from ....vd_core.checkpoints.companions import may_hold_diffuser

    own, *others = FOLDERS["model"]
    found = [
        name
        for folder in others
        for name in folder_paths.get_filename_list(folder)
        if (path := folder_paths.get_full_path(folder, name)) and may_hold_diffuser(Path(path))
    ]
    return list(dict.fromkeys([*folder_paths.get_filename_list(own), *found]))


def find(name: str, role: str) -> Path:
    """Return the path of a file of that role. Raises FileNotFoundError with what was searched for where."""
    from ....vd_core.checkpoints.published import find_model

    if name == EMBEDDED:
        return EMBEDDED_SEECODER if role == "seecoder" else MODEL
    folders = [path for folder in FOLDERS[role] for path in folder_paths.get_folder_paths(folder)]
    return find_model(name, [*context_folders(), *folders] if role == "context" else folders)


def find_part(model: Path, part: str, role: str) -> Path:
    """Find the file of a part of a model: its own, else the published one. Raises FileNotFoundError as
    `companions.find_part` does."""
    from ....vd_core.checkpoints.companions import find_part as find

    return find(
        model,
        part,
        [Path(path) for folder in FOLDERS[role] for path in folder_paths.get_folder_paths(folder)],
    )


def output_place(prefix: str, directory: str | None) -> tuple[Path, str]:
    """Return the folder for a file, and the start of its name; `directory` is the standalone host's. Raises
    ValueError for a bad prefix."""
    try:
        _, stem, _, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory()
        )
    except Exception as error:  # core has no class for it
        raise ValueError(
            f"filename_prefix {prefix!r} leaves the output folder; use a plain name, with sub-folders at "
            "most."
        ) from error
    return resolve_inside(
        Path(folder_paths.get_output_directory()), f"{subfolder}/{stem}".lstrip("/"), "filename_prefix"
    )
