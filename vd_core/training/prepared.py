"""Encode a data set once with the frozen encoders, keep it on disk, and read it in pieces."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..checkpoints.load import Paths, load
from ..checkpoints.parts import list_flow_parts
from ..datasets.find import find_rows
from ..datasets.read import Reader
from ..datasets.rows import Listing, Row
from ..files import write_whole
from ..flows import VersatileDiffusion
from ..pictures import from_pil, read_picture
from ..runs import hash_files, hash_rows, is_recorded, lock_folder, write_left_out
from . import distributed
from .diffuser import FlowData

log = logging.getLogger(__name__)

Flow = tuple[str, str]  # output kind, condition kind


@dataclass(frozen=True)
class Source:
    """Pictures with captions, and how they are read.

    path:       a folder or a file, as `find_rows` reads it; recursive: with its subfolders.
    size:       side of the pictures in pixels: the shorter side is resized to it, the middle cut out.
    caption:    for pictures that have none; None = all have one.
    background: the colour under transparent pictures.
    """

    path: Path
    size: int
    caption: str | None = None
    recursive: bool = False
    background: str = "white"


@dataclass(frozen=True)
class Prepared:
    """A data set as the flows read it, its captions, and a hash of its contents."""

    flows: FlowData
    captions: list[str]
    digest: str


def prepare(
    source: Source,
    model: Paths,
    folder: Path,
    flows: Collection[Flow],
    device: torch.device | str,
    accept_changes: bool = False,
) -> Prepared:
    """Read the latents and contexts that `flows` need from `folder`, which is filled if it is empty.

    Latents are float32, tokens float16. accept_changes: fill it again where data, model or settings have
    changed. Raises ValueError when the folder holds another data set or what it holds is damaged, and what
    `find_rows` raises.
    """
    index = folder / "prepared.json"
    if distributed.is_first():
        listing = find_pictures(source)  # before there is a folder, which a refusal would leave
        with lock_folder(folder):
            list_left_out(listing, source, folder)
            made_from = {
                "data": hashlib.sha256("".join(hash_rows(listing.rows)).encode()).hexdigest()[:16],
                "model": hash_model(model),
                "flows": sorted(map(list, flows)),
                **{name: getattr(source, name) for name in ("size", "caption", "background")},
            }
            record = folder / "made_from.json"
            if not is_recorded(record, made_from, accept_changes) or not index.exists():
                for path in (record, index):  # the record first: it never tells of other files than its own
                    path.unlink(missing_ok=True)
                encode(listing.rows, source, model, folder, flows, device)
                with write_whole(record) as file:
                    file.write(json.dumps(made_from, indent=1).encode())
    distributed.wait()
    return read_prepared(folder)


def list_left_out(listing: Listing, source: Source, folder: Path) -> None:
    """List what is left out in left_out.jsonl, and say so."""
    write_left_out(listing.left_out, folder)
    if listing.left_out:
        log.warning("%s: %s; %s lists them", source.path, listing.summarize(), folder / "left_out.jsonl")


def find_pictures(source: Source) -> Listing:
    """List the pictures of a data set with their captions, and what is left out.

    Raises ValueError for no pictures, and for pictures without a caption when there is none for all.
    """
    listing = find_rows(source.path, source.recursive).keep("picture")
    if not listing.rows:
        raise ValueError(f"There are no pictures in {source.path}: {listing.summarize() or 'it is empty'}.")
    lacking = [row.id for row in listing.rows if row.text is None]
    if lacking and source.caption is None:
        left_out = f" ({listing.summarize()})" if listing.left_out else ""
        raise ValueError(
            f"{len(lacking)} of {len(listing.rows)} pictures in {source.path} have no caption, such as "
            f"{lacking[0]}{left_out}: write one beside each as .txt, give --caption for all that have none, "
            "or move these pictures elsewhere."
        )
    rows = [row if row.text is not None else row._replace(text=source.caption) for row in listing.rows]
    return Listing(rows, listing.left_out)


def hash_model(model: Paths) -> str:
    """Hash the files of a model; a name on the hub is its own."""
    paths = [model] if isinstance(model, (str, Path)) else list(model)
    return " ".join(hash_files([path]) if Path(path).exists() else str(path) for path in paths)


def fit_picture(picture: Image.Image, size: int) -> Tensor:
    """Resize the shorter side and cut out the middle: [3, size, size] in 0..1."""
    return from_pil([ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)])[0]


def read_batches(
    rows: Sequence[Row], source: Source, batch: int, errors: list[dict[str, str]]
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield pictures [B, 3, S, S] in 0..1 and B captions.

    Pictures that cannot be read are left out with a warning, and their ids and faults put into `errors`.
    """
    reader = Reader()
    for start in range(0, len(rows), batch):
        pictures, captions = [], []
        for row in rows[start : start + batch]:
            try:
                picture = read_picture(reader.read(row), row.id, source.background)
                pictures.append(fit_picture(picture, source.size))
                captions.append(row.text or "")
            except ValueError as error:
                errors.append({"id": row.id, "error": str(error)})
                log.warning("left out: %s", error)
        if pictures:
            yield torch.stack(pictures), captions


@torch.inference_mode()
def encode(
    rows: Sequence[Row],
    source: Source,
    model: Paths,
    folder: Path,
    flows: Collection[Flow],
    device: torch.device | str,
) -> None:
    """Fill a folder: one file of rows per kind, and last the index that says that they are complete.

    Pictures that cannot be read are listed in errors.jsonl.
    """
    parts = {part for flow in flows for part in list_flow_parts(*flow) if not part.startswith("diffuser.")}
    vd = load(model, parts=parts).to(device)
    log.info("encoding the pictures of %s, once; what the encoders make is kept in %s", source.path, folder)
    encoders = choose_encoders(vd, flows)
    shapes: dict[str, list] = {}
    captions: list[str] = []
    errors: list[dict[str, str]] = []
    hashes = {name: hashlib.sha256() for name in encoders}
    with ExitStack() as stack:
        out = {name: stack.enter_context(write_whole(folder / name)) for name in encoders}

        def write(name: str, values: Tensor) -> None:
            dtype = torch.float32 if name.startswith("latents") else torch.float16
            array = values.to(dtype).cpu().contiguous().numpy()
            out[name].write(array.data)
            hashes[name].update(array.data)
            shapes[name] = [[shapes.get(name, [[0]])[0][0] + len(array), *array.shape[1:]], str(array.dtype)]

        for pictures, texts in read_batches(rows, source, 16, errors):
            for name, encoder in encoders.items():
                if not name.startswith("nulls"):
                    write(name, encoder(pictures.to(device), texts))
            captions += texts
            if len(captions) % 1024 < len(texts):  # a line now and then
                log.info("%d pictures encoded", len(captions))
        with write_whole(folder / "errors.jsonl") as file:
            file.writelines(json.dumps(entry).encode() + b"\n" for entry in errors)
        if errors:
            lost = f"{len(errors)} of {len(rows)} pictures cannot be read and are left out"
            log.warning("%s; %s lists them", lost, folder / "errors.jsonl")
        if not captions:
            raise ValueError(f"No picture in {source.path} can be read, of {len(rows)}.")
        for name, encoder in encoders.items():
            if name.startswith("nulls"):
                write(name, encoder(torch.zeros(1, 3, source.size, source.size, device=device), [""]))
    files = {name: [*shapes[name], hashes[name].hexdigest()] for name in encoders}
    with write_whole(folder / "prepared.json") as file:
        file.write(json.dumps({"files": files, "captions": captions}).encode())


def read_prepared(folder: Path) -> Prepared:
    """Map what `encode` wrote into memory, after comparing all of it with its hashes in the first process.

    Raises ValueError for what is damaged or was exchanged.
    """
    try:
        entry = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
        files, captions = entry["files"], list(map(str, entry["captions"]))
        rows = {name: map_rows(folder / name, shape, dtype) for name, (shape, dtype, _) in files.items()}
        for name, (_, _, known) in files.items():
            if distributed.is_first() and hashlib.sha256(rows[name].numpy().data).hexdigest() != known:
                raise ValueError(f"{name} is not what was written")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(
            f"{folder} is damaged ({error}): delete it, then the same command encodes the pictures again."
        ) from error

    def group(start: str) -> dict[str, Tensor]:
        return {
            name.partition(".")[2]: tensor for name, tensor in rows.items() if name.startswith(f"{start}.")
        }

    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    return Prepared(FlowData(group("latents"), group("contexts"), group("nulls")), captions, digest)


def map_rows(path: Path, shape: Sequence[int], dtype: str) -> Tensor:
    """Map a file of rows into memory. Raises ValueError for one of another size."""
    if path.stat().st_size != np.dtype(dtype).itemsize * np.prod(shape):
        raise ValueError(f"{path.name} has another size than when it was written")
    # Copy on write: torch takes no read-only memory. Nothing is written.
    return torch.from_numpy(np.memmap(path, dtype, "c", shape=tuple(shape)))


def choose_encoders(
    vd: VersatileDiffusion, flows: Collection[Flow]
) -> dict[str, Callable[[Tensor, list[str]], Tensor]]:
    """Choose what is kept: name -> function of pictures and captions.

    Raises ValueError for kinds that pictures with captions cannot teach.
    """
    sizes = vd.config.diffuser.data
    known = {
        "latents.image": lambda pictures, texts: vd.image_vae.encode(pictures) * sizes["image"].latent_scale,
        "latents.text": lambda pictures, texts: vd.text_vae.encode(texts) * sizes["text"].latent_scale,
        "contexts.image": lambda pictures, texts: vd.clip.encode_image(pictures),
        "contexts.text": lambda pictures, texts: vd.clip.encode_text(texts),
        # Both unconditional pictures that sampling offers: zeros for image output, a black one for text
        # output.
        "nulls.image": lambda pictures, texts: torch.cat(
            [0 * (black := vd.clip.encode_image(pictures)), black]
        ),
        "nulls.text": lambda pictures, texts: vd.clip.encode_text([""]),
    }
    wanted = dict.fromkeys(
        name for data, kind in flows for name in (f"latents.{data}", f"contexts.{kind}", f"nulls.{kind}")
    )
    if strangers := [name for name in wanted if name not in known]:
        raise ValueError(
            f"Pictures with captions have no {strangers[0]}: the flows between image and text can be trained "
            "on them."
        )
    return {name: known[name] for name in wanted}
