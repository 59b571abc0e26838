"""Fetch the published files of Versatile Diffusion, when a user asks for it; stopped downloads go on where
they were.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from ..choices import REPOSITORY
from ..files import move_whole
from ..foreign import quote_error
from .hub import COMPONENTS
from .published import PUBLISHED
from .vocabularies import SOURCES

ENDINGS = (".json", ".safetensors", ".bin")


@dataclass(frozen=True)
class Remote:
    """A file of a repository on the hub, its bytes, and the name that it gets here; "" keeps its place in the
    cache.
    """

    repository: str
    file: str
    bytes: int
    name: str = ""


def list_single_files(precision: str) -> list[tuple[str, str, str]]:
    """List (repository, file, name here) of the official single files, CLIP and the vocabularies of the text
    autoencoder.

    precision: "float16" or "float32", of the diffuser.
    """
    files = []
    for published in PUBLISHED:
        file = published.file.replace("-fp16", "") if precision == "float32" else published.file
        # CLIP's file has a name that says nothing where it lies beside others
        name = "clip-vit-large-patch14.safetensors" if file == "model.safetensors" else file
        files.append((published.repository, f"{published.folder}/{file}".lstrip("/"), name))
    return files + [(source.repositories[0], source.file, source.names[0]) for source in SOURCES.values()]


def plan_pipeline(repository: str = REPOSITORY, endpoint: str | None = None) -> list[Remote]:
    """List the files of a diffusers pipeline that `load("OWNER/NAME")` reads.

    Raises OSError with one sentence, ValueError for a repository that has none of them.
    """
    sizes = ask_sizes(repository, endpoint)
    folders = tuple(f"{component.folder}/" for component in COMPONENTS)
    wanted = [
        file
        for file in sizes
        if file.startswith(folders) and file.endswith(ENDINGS) or file == "model_index.json"
    ]
    if not any(file.startswith(folders) for file in wanted):
        raise ValueError(
            f"{repository} holds no pipeline of Versatile Diffusion, which has the folders "
            f"{', '.join(folders)}: give another --repository."
        )
    return [Remote(repository, file, sizes[file]) for file in leave_out_doubles(wanted)]


def leave_out_doubles(files: Sequence[str]) -> list[str]:
    """Leave out weights that are there a second time, in half precision or as .bin beside .safetensors."""
    whole = [file for file in files if ".fp16." not in file] or list(files)
    safe = {file.partition("/")[0] for file in whole if file.endswith(".safetensors")}
    return [
        file
        for file in whole
        if not (file.endswith((".bin", ".bin.index.json")) and file.partition("/")[0] in safe)
    ]


def plan_single_files(precision: str = "float16", endpoint: str | None = None) -> list[Remote]:
    """List the official single files with the bytes that are published. Raises OSError with one sentence."""
    wanted = list_single_files(precision)
    sizes = {
        repository: ask_sizes(repository, endpoint)
        for repository in {repository for repository, _, _ in wanted}
    }
    if absent := [f"{repository}/{file}" for repository, file, _ in wanted if file not in sizes[repository]]:
        raise OSError(
            f"The hub no longer has {', '.join(absent)}: ask its owners, or get the file from somebody else."
        )
    return [Remote(repository, file, sizes[repository][file], name) for repository, file, name in wanted]


def ask_sizes(repository: str, endpoint: str | None) -> dict[str, int]:
    """Ask the hub for the files of a repository and their bytes. Raises OSError with one sentence."""
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, files_metadata=True)
    except Exception as error:  # the client meets the network here and can fail in any way
        raise OSError(explain_unreachable(repository, endpoint, error)) from error
    return {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}


def explain_unreachable(what: str, endpoint: str | None, error: Exception) -> str:
    """Say what to do when the hub does not answer as it should."""
    where = endpoint or constants.ENDPOINT
    reason = quote_error(error)
    return f"{what} cannot be fetched from {where} ({reason}): the same command goes on where it stopped."


def download(
    files: Iterable[Remote],
    folder: str | Path | None = None,
    endpoint: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fetch files into a folder under their own names, or into the Hugging Face cache; returns where they
    are.

    A file that is there with the published bytes is not fetched again; one that was stopped goes on. report:
    told a line per file. Raises OSError with one sentence for a full disk, a network that fails, and a file
    of another size, be it fetched or there already.
    """
    files = list(files)
    target = Path(folder) if folder is not None else None
    check_taken(files, target)
    check_room(files, target)
    return [fetch(file, target, endpoint, report) for file in files]


def fetch(file: Remote, folder: Path | None, endpoint: str | None, report: Callable[[str], None]) -> Path:
    """Fetch one file; in a folder it appears under its name when it is complete."""
    place = None if folder is None else folder / file.name
    if place is not None and is_here(file, folder):
        report(f"{place}: there already")
        return place
    report(f"{file.repository}/{file.file}: {file.bytes:,} bytes")
    parts = None if folder is None else folder / ".download" / file.repository.replace("/", "--")
    try:
        fetched = Path(hf_hub_download(file.repository, file.file, local_dir=parts, endpoint=endpoint))
    except Exception as error:  # as above
        raise OSError(explain_unreachable(f"{file.repository}/{file.file}", endpoint, error)) from error
    if (size := fetched.stat().st_size) != file.bytes:
        raise OSError(
            f"{fetched} has {size:,} bytes where {file.bytes:,} are published: delete it and fetch it again."
        )
    if place is None or parts is None:
        return fetched
    move_whole(fetched, place)
    shutil.rmtree(parts, ignore_errors=True)  # what is left there says how far a download got
    if not any(parts.parent.iterdir()):
        parts.parent.rmdir()
    return place


def is_here(file: Remote, folder: Path | None) -> bool:
    """Tell whether a file need not be fetched."""
    if folder is None:
        return isinstance(try_to_load_from_cache(file.repository, file.file), str)
    return (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.bytes


def check_taken(files: Sequence[Remote], folder: Path | None) -> None:
    """Raise FileExistsError where a name is taken by what was not published: it may be the user's own."""
    places = [] if folder is None else [folder / file.name for file in files if not is_here(file, folder)]
    if taken := [str(place) for place in places if os.path.lexists(place)]:
        raise FileExistsError(
            f"There are other files than the published ones at {', '.join(taken)}: move them away, or choose "
            "another folder."
        )


def check_room(files: Sequence[Remote], folder: Path | None) -> None:
    """Refuse to begin what cannot end. Raises OSError where the disk has no room for what is missing."""
    where = Path(constants.HF_HUB_CACHE) if folder is None else folder
    try:
        where.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(where).free
    except OSError as error:
        raise OSError(f"The folder {where} cannot be made: {error.strerror or error}.") from error
    missing = [file for file in files if not is_here(file, folder)]
    if (needed := sum(file.bytes for file in missing)) > free:
        raise OSError(
            f"{where} has {free:,} bytes left where {needed:,} are needed: make room, or choose another "
            "folder."
        )
