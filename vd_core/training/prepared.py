"""What the frozen encoders make of a data set, computed once and kept on disk, read back in pieces as training needs them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.load import Paths, load
from ..checkpoints.parts import parts_of_flow
from ..files import make_folder, write_whole
from ..flows import VersatileDiffusion
from . import distributed
from .diffuser import FlowData
from .user_data import chunked, fingerprint, readable, samples

log = logging.getLogger(__name__)

Flow = tuple[str, str]  # output kind, condition kind


@dataclass(frozen=True)
class Prepared:
    """A data set as the flows read it, its captions, and a hash of its contents."""

    flows: FlowData
    captions: list[str]
    digest: str


def prepared(data: Path, model: Paths, folder: Path, flows: Collection[Flow], size: int, caption: str | None, device) -> Prepared:
    """The latents and contexts that `flows` need of the pictures and captions in `data`, from `folder`, which is filled if it is empty.

    size: side of the pictures in pixels. caption: for pictures that have none.
    Latents are float32, tokens float16. Raises ValueError when the folder holds another data set.
    """
    source = {"data": fingerprint(data), "flows": sorted(map(list, flows)), "size": size, "caption": caption}
    index = folder / "prepared.json"
    if distributed.is_first() and not index.exists():
        make_folder(folder)
        encode(data, model, folder, flows, size, caption, device, source)
    distributed.wait()
    entry = json.loads(index.read_text(encoding="utf-8"))
    if changed := [name for name in source if entry["source"][name] != source[name]]:
        raise ValueError(f"{folder} was made with other {', '.join(changed)}: choose an empty folder for this run, or delete {folder}.")

    def rows(name: str) -> Tensor:
        shape, dtype = entry["rows"][name]
        # Copy on write: torch takes no read-only memory. Nothing is written.
        return torch.from_numpy(np.memmap(folder / name, dtype, "c", shape=tuple(shape)))

    def group(start: str) -> dict[str, Tensor]:
        return {name.split(".")[1]: rows(name) for name in entry["rows"] if name.startswith(f"{start}.")}

    return Prepared(FlowData(group("latents"), group("contexts"), group("nulls")), entry["captions"], entry["digest"])


@torch.inference_mode()
def encode(data: Path, model: Paths, folder: Path, flows: Collection[Flow], size: int, caption: str | None, device, source: dict) -> None:
    """Fill a folder: one file of rows per kind, and last the index that says that they are complete."""
    parts = {part for flow in flows for part in parts_of_flow(*flow) if not part.startswith("diffuser.")}
    vd = load(model, parts=parts)
    for part in (vd.clip, vd.image_vae, vd.text_vae):
        if part is not None:
            part.to(device)
    log.info("encoding the pictures of %s, once: what the encoders say is kept in %s", data, folder)
    encoders, hashed, shapes, captions = encoders_of(vd, flows), hashlib.sha256(), {}, []
    with ExitStack() as stack:
        out = {name: stack.enter_context(write_whole(folder / name)) for name in encoders}

        def write(name: str, values: Tensor) -> None:
            array = values.to(torch.float32 if name.startswith("latents") else torch.float16).cpu().contiguous().numpy()
            out[name].write(array)
            hashed.update(array)
            shapes[name] = [[shapes.get(name, [[0]])[0][0] + len(array), *array.shape[1:]], str(array.dtype)]

        for pictures, texts in chunked(readable(samples(data), size, caption), 16):
            for name, encoder in encoders.items():
                if not name.startswith("nulls"):
                    write(name, encoder(pictures.to(device), texts))
            captions += texts
            if len(captions) % 1024 < len(texts):  # a line now and then
                log.info("%d pictures encoded", len(captions))
        if not captions:
            raise ValueError(f"There are no pictures in {data}.")
        for name, encoder in encoders.items():
            if name.startswith("nulls"):
                write(name, encoder(torch.zeros(1, 3, size, size, device=device), [""]))
    entry = {"source": source, "rows": shapes, "captions": captions, "digest": hashed.hexdigest()[:16]}
    with write_whole(folder / "prepared.json") as file:
        file.write(json.dumps(entry).encode())


def encoders_of(vd: VersatileDiffusion, flows: Collection[Flow]) -> dict[str, Callable[[Tensor, list[str]], Tensor]]:
    """What is kept: name -> function of pictures and captions. Raises ValueError for kinds that pictures with captions cannot teach."""
    sizes = vd.config.diffuser.data
    known = {
        "latents.image": lambda pictures, texts: vd.image_vae.encode(pictures) * sizes["image"].latent_scale,
        "latents.text": lambda pictures, texts: vd.text_vae.encode(texts) * sizes["text"].latent_scale,
        "contexts.image": lambda pictures, texts: vd.clip.encode_image(pictures),
        "contexts.text": lambda pictures, texts: vd.clip.encode_text(texts),
        # Both unconditional pictures that sampling offers: zeros for image output, a black one for text output.
        "nulls.image": lambda pictures, texts: torch.cat([0 * (black := vd.clip.encode_image(pictures)), black]),
        "nulls.text": lambda pictures, texts: vd.clip.encode_text([""]),
    }
    wanted = dict.fromkeys(name for data, kind in flows for name in (f"latents.{data}", f"contexts.{kind}", f"nulls.{kind}"))
    if strangers := [name for name in wanted if name not in known]:
        raise ValueError(f"Pictures with captions have no {strangers[0]}: the flows between image and text can be trained on them.")
    return {name: known[name] for name in wanted}
