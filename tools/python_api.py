"""Write docs/python.md, the Python API, from the docstrings: `python -m tools.python_api`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import vd_core
from vd_core.autoencoders.image_kl import AutoencoderKL
from vd_core.autoencoders.optimus import Optimus
from vd_core.bulk.reconstruct import Reconstruction
from vd_core.checkpoints.scheduler_config import SCHEDULERS
from vd_core.choices import SPACINGS
from vd_core.encoders.clip import Clip
from vd_core.sampling.corrections import GuidanceOptions
from vd_core.sampling.energy import Energy
from vd_core.sampling.noise import NOISES
from vd_core.sampling.samplers import SAMPLERS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
INTRODUCTION = """# The Python API

Written from the docstrings by `python -m tools.python_api`. Shapes: B samples, n tokens of width d, pictures
[B, 3, H, W] in 0..1, latents unscaled. What cannot be ends in a ValueError (files: FileNotFoundError,
OSError) with one sentence; all of them are listed in [messages.md](messages.md).

Each part computes in the precision of its weights and answers pictures and latents in the precision that it
was given; everything must be on one device. Loaded weights are frozen: results carry gradients where an input
or a weight that takes part requires them.
"""
METHODS = {
    vd_core.VersatileDiffusion: ("encode_text", "encode_image", "sample", "invert", "to"),
    AutoencoderKL: ("encode", "decode", "decode_unclamped"),
    Optimus: ("encode", "decode"),
    Clip: ("encode_text", "encode_image", "embed_text", "embed_image"),
}
INSIDE = {AutoencoderKL: "vd.image_vae", Optimus: "vd.text_vae", Clip: "vd.clip"}
CHOICES = {"SAMPLERS": SAMPLERS, "SCHEDULERS": SCHEDULERS, "SPACINGS": SPACINGS, "NOISES": NOISES}
MORE = (AutoencoderKL, Optimus, Clip, GuidanceOptions, Energy, Reconstruction)


def write_page() -> str:
    """Write the page."""
    public = [getattr(vd_core, name) for name in vd_core.__all__]
    entries = [entry for entry in (*public, *MORE) if inspect.isclass(entry) or inspect.isfunction(entry)]
    return "\n".join([INTRODUCTION, *(line for entry in dict.fromkeys(entries) for line in describe(entry))])


def describe(entry: type) -> Iterator[str]:
    """Describe a function, or a class with its methods."""
    place = entry.__module__ if entry.__name__ not in vd_core.__all__ else "vd_core"
    title = INSIDE.get(entry, f"{place}.{entry.__name__}")
    yield from (f"## `{title}`", "", *write_block(entry, entry.__name__))
    for name in METHODS.get(entry, ()):
        yield from (f"### `{INSIDE.get(entry, 'vd')}.{name}`", "", *write_block(getattr(entry, name), name))


def write_block(entry: object, name: str) -> list[str]:
    """Show a signature and a docstring, in which names of choices become what they stand for."""
    text = re.sub(
        r"one of `([A-Z]+)`",
        lambda match: "one of " + ", ".join(f'"{choice}"' for choice in CHOICES[match[1]]),
        inspect.getdoc(entry) or "",
    )
    return ["```", write_signature(entry, name), "", text, "```", ""]


def write_signature(entry: object, name: str) -> str:
    """Write what is called, a parameter per line where one line is too long."""
    parameters = [
        str(p).replace(f"{Path(__file__).resolve().parents[1]}/", "")  # defaults may be files of this folder
        for p in inspect.signature(entry).parameters.values()  # type: ignore[arg-type]
        if p.name != "self"
    ]
    # annotations are strings
    parameters = [re.sub(r"(: )'([^']*)'", r"\1\2", parameter) for parameter in parameters]
    answer = inspect.signature(entry).return_annotation  # type: ignore[arg-type]
    given = "" if answer in (inspect.Signature.empty, None, "None") else f" -> {answer}"
    whole = f"{name}({', '.join(parameters)}){given}"
    if len(whole) <= 100:
        return whole
    return "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f"){given}"])


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
