"""Nodes called in the standalone host with whatever fits their sockets, and much that does not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from runner.checks import Node, check_value
from runner.core_nodes import CORE_NODES
from runner.graph import describe_classes
from runner.in_process import run_node
from runner.pack import load_pack
from vd_core.memory import is_out_of_memory

from .forked import Result, Table, judge_error, run_forked, set_environment

CASES = 1500
SLOW = ("VD_TextDecode",)
TEXTS = (
    "",
    " ",
    "red apple, 3d style",
    "a" * 100_000,
    "word " * 20_000,
    "\0",
    "\ud800",
    "\U0001f34e\U00020000\U000e0041\U00100000",
    "\u202e\u200b\ufeff",
    "(((",
    "(a:1e999)",
    "(a:-1)",
    "(a:nan)",
    "(red:0)",
    "\n\n\n",
    "../x",
    "é" * 300,
    "".join(map(chr, range(32, 1000))),
)
NUMBERS = (
    0,
    1,
    -1,
    2,
    0.5,
    1e-9,
    1.0,
    7.5,
    float("inf"),
    float("-inf"),
    float("nan"),
    2**64 - 1,
    2**64,
    -(2**63),
    1e300,
    True,
    "3",
    None,
    [],
)


def make_pictures() -> dict[str, Tensor]:
    """Make IMAGEs."""
    torch.manual_seed(0)
    plain = torch.rand(1, 64, 64, 3)
    return {
        "plain": plain,
        "two": torch.rand(2, 64, 64, 3),
        "rgba": torch.rand(1, 64, 64, 4),
        "grey": torch.rand(1, 64, 64, 1),
        "five channels": torch.rand(1, 8, 8, 5),
        "one pixel": torch.rand(1, 1, 1, 3),
        "a row": torch.rand(1, 1, 200, 3),
        "a column": torch.rand(1, 300, 2, 3),
        "odd": torch.rand(1, 67, 45, 3),
        "no picture": torch.rand(0, 64, 64, 3),
        "no side": torch.rand(1, 0, 64, 3),
        "NaN": plain.clone().fill_(float("nan")),
        "infinite": plain.clone().fill_(float("inf")),
        "out of range": plain * 1000 - 500,
        "float64": plain.double(),
        "half": plain.half(),
        "bytes": (plain * 255).byte(),
        "three axes": plain[0],
        "five axes": plain[None],
    }


def make_masks() -> dict[str, Tensor]:
    """Make MASKs."""
    return {
        "none": torch.zeros(1, 64, 64),
        "all": torch.ones(1, 64, 64),
        "some": (torch.rand(1, 64, 64) > 0.5).float(),
        "three": torch.zeros(3, 64, 64),
        "other size": torch.rand(1, 7, 9),
        "NaN": torch.full((1, 64, 64), float("nan")),
        "two axes": torch.ones(64, 64),
        "four axes": torch.ones(1, 1, 64, 64),
        "empty": torch.ones(0, 64, 64),
        "truth values": torch.rand(1, 64, 64) > 0.5,
        "bytes": torch.full((1, 64, 64), 255, dtype=torch.uint8),
    }


def make_latents(image: dict, text: dict) -> dict[str, dict]:
    """Make LATENTs."""
    shapes = {
        "empty": (1, 16, 8, 8),
        "core's": (1, 4, 8, 8),
        "no batch": (0, 16, 8, 8),
        "no side": (1, 16, 0, 8),
        "odd": (1, 16, 9, 5),
        "five axes": (1, 16, 1, 8, 8),
    }
    found = {name: {"samples": torch.zeros(shape)} for name, shape in shapes.items()}
    found |= {
        "other channels": {"samples": torch.rand(1, 9, 8, 8)},
        "NaN": {"samples": torch.full((1, 16, 8, 8), float("nan"))},
        "three axes": {"samples": torch.rand(16, 8, 8)},
        "a list": {"samples": [[0.0] * 8] * 8},
        "no samples": {},
        "bytes": {"samples": torch.zeros(1, 16, 8, 8, dtype=torch.uint8)},
        "a mask of truth values": {**image, "noise_mask": torch.ones(1, 8, 8, dtype=torch.bool)},
        "a mask of two axes": {**image, "noise_mask": torch.ones(64, 64)},
        "a mask of bytes": {**image, "noise_mask": torch.full((1, 64, 64), 255, dtype=torch.uint8)},
        "a list for a mask": {**image, "noise_mask": [1.0]},
        "a broken mask": {**image, "noise_mask": torch.full((1, 1, 8, 8), float("nan"))},
    }
    return found | {
        "picture": image,
        "text": text,
        "two axes": {"samples": torch.rand(2, 3)},
        "wide text": {"samples": torch.rand(1, 99, 1, 1)},
    }


class Bench:
    """The nodes, the embedded model and a pool of values for every type of socket."""

    def __init__(self) -> None:
        self.pack: ModuleType = load_pack(name="versatile_diffusion_tortured")
        self.classes = {**CORE_NODES, **self.pack.NODE_CLASS_MAPPINGS}
        self.inputs = {name: describe_classes(self.classes).inputs(name, name) for name in self.classes}
        with torch.inference_mode():
            model, vae = self.call("VD_LoadImageModel")
            text_model, text_vae = self.call("VD_LoadTextModel")
            (clip,), (vision,) = self.call("VD_LoadClip"), self.call("VD_LoadClipVision")
            text = self.call("VD_TextContext", clip=clip, text="red apple, 3d style", negative_text="")
            image = self.call("VD_ImageContext", clip_vision=vision, image=torch.rand(1, 64, 64, 3))
            many = self.call("VD_ImageContext", clip_vision=vision, image=torch.rand(3, 64, 64, 3))
            latent = {"samples": vae.encode(torch.rand(1, 64, 64, 3))}
            words = self.call("VD_TextEncode", text_vae=text_vae, text="red apple, 3d style")[0]
        foreign = [[torch.randn(1, 77, 768), {}]], [[torch.randn(1, 7, 99), {"pooled_output": None}]]
        broken = [[torch.full_like(text[0][0][0], float("nan")), text[0][0][1]]]
        self.pools: dict[str, list] = {
            "MODEL": [model, text_model],
            "VAE": [vae],
            "VD_TEXT_VAE": [text_vae],
            "CLIP": [clip],
            "CLIP_VISION": [vision],
            "CONDITIONING": [
                text[0],
                text[1],
                image[0],
                image[1],
                text[0],
                image[0],
                many[0],
                many[1],
                *foreign,
                broken,
            ],
            "LATENT": list(make_latents(latent, words).values()),
            "IMAGE": list(make_pictures().values()),
            "MASK": list(make_masks().values()),
        }

    def call(self, name: str, **values):
        """Return the outputs of a node, its defaults filled in."""
        defaults = {
            key: entry.options["default"]
            for key, entry in self.inputs[name].items()
            if "default" in entry.options
        }
        defaults |= {
            key: entry.choices[0]
            for key, entry in self.inputs[name].items()
            if entry.choices and key not in defaults
        }
        answer = self.classes[name]().execute(**{**defaults, **values})
        return answer["result"] if isinstance(answer, dict) else answer

    def value(self, entry, key: str, rng: random.Random):
        """Something for one input: mostly what fits it, bounded where it only costs time."""
        if entry.type in self.pools:
            return rng.choice(self.pools[entry.type])
        if entry.type == "COMBO":
            return (
                rng.choice([*entry.choices, *entry.choices, *entry.choices, "no such choice"])
                if entry.choices
                else "none"
            )
        if entry.type == "STRING":
            return rng.choice(TEXTS)
        if entry.type == "BOOLEAN":
            return rng.choice([True, False, False, True, "yes"])
        if rng.random() < 0.1:
            return rng.choice(NUMBERS)
        low, high = entry.options.get("min", -5), entry.options.get("max", 5)
        if key in ("steps", "batch_size", "count", "width", "height", "columns", "inner_steps"):
            return rng.choice([low, min(high, low * 2), min(high, 2)])
        return rng.choice([low, high, entry.options.get("default", low), 0, 1])


def list_tensors(value: object) -> Iterator[Tensor]:
    """List all tensors in nested values."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from list_tensors(member)
    elif isinstance(value, dict):
        yield from list_tensors(list(value.values()))


def is_finite(value: object) -> bool:
    """Tell whether all numbers in a value are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in list_tensors(value))


def try_node(bench: Bench, name: str, values: dict, folder: Path) -> Result:
    """Try one call, checked as the runner checks it."""
    try:
        for key, entry in bench.inputs[name].items():
            if entry.is_widget and key in values:
                values[key] = check_value(values[key], entry, f"{name}, input {key}", [folder])
        node, hidden = (
            Node("1", name, bench.classes[name], values, {}),
            {"OUTPUT_DIRECTORY": str(folder / "out")},
        )
        before = is_finite(list(values.values()))
        with torch.inference_mode():
            results, _ = run_node(node, {}, {**hidden, "PROMPT": {}, "EXTRA_PNGINFO": {}})
        good = is_finite(results) or not before
        stray = [path for path in folder.iterdir() if path.name != "out"]
        return Result(
            "survived" if good and not stray else "wrong",
            f"left {stray}" if stray else "not finite" if not good else "",
        )
    except (RuntimeError, MemoryError) as error:
        return Result("refused") if is_out_of_memory(error) else judge_error(error)
    except Exception as error:
        return judge_error(error)


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """Nodes in turn, with drawn values."""
    rng = random.Random(seed)
    with set_environment(VD_MODELS=str(folder / "models")):
        bench = Bench()
        names = [
            name
            for name, inputs in bench.inputs.items()
            if name not in SLOW
            and all(
                entry.type in bench.pools or entry.is_widget or entry.type == "*" for entry in inputs.values()
            )
        ]
        for number in range(max(len(names), round(CASES * share))):
            name, place = names[number % len(names)], folder / str(number)
            values = {
                key: bench.value(entry, key, rng)
                for key, entry in bench.inputs[name].items()
                if entry.required or rng.random() < 0.5
            }
            place.mkdir()
            shown = {
                key: str(value)[:40] if not isinstance(value, (Tensor, dict, list)) else "…"
                for key, value in values.items()
            }
            table.add(
                "inputs of nodes",
                f"#{number} {name} {shown}",
                run_forked(partial(try_node, bench, name, values, place)),
            )
