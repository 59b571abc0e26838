"""Small files that claim much, tensors that are no weights, and LoRAs, contexts and sizes that cannot be:

each is refused at once.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from seecoder.checkpoints import from_tensors
from vd_core.checkpoints.contexts import load_context
from vd_core.checkpoints.convert import convert
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import read_lora
from vd_core.checkpoints.parts import build
from vd_core.checkpoints.read import read
from vd_core.checkpoints.report import inspect
from vd_core.checkpoints.write import save_model
from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.flows import VersatileDiffusion

from .forked import Result, Table, judge_error, run_forked
from .strange_files import put

NATIVE = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q"
TINY = VDConfig.tiny()


@dataclass(frozen=True)
class Claim:
    """One bad file: what makes it at a path, and what must refuse it."""

    kind: str
    name: str
    make: Callable[[Path], object]
    load: Callable[[Path], object]
    ending: str = ".pth"


def save(tensors: dict[str, Tensor] | Tensor, new: bool, path: Path) -> None:
    """Write a file of torch.save, in today's format or that from before torch 1.6."""
    torch.save(tensors, path, _use_new_zipfile_serialization=new)


def make_strange_tensors() -> dict[str, Tensor]:
    """Make tensors that torch.save writes and that are no weights."""
    plain = torch.randn(7, 40)
    strange = {
        "stride 0, 10^10 numbers": torch.ones(1).expand(10**5, 10**5),
        "stride 0, 10^12 numbers": torch.ones(1).expand(10**6, 10**6),
        "stride 0, 4 GB": torch.ones(1).expand(25_000_000, 40),
        "overlapping": torch.ones(12).as_strided((10, 10), (1, 0)),
        "meta, 10^12 numbers": torch.empty(10**6, 10**6, device="meta"),
        "sparse": plain.to_sparse(),
        "sparse of 10^12": torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (10**6, 10**6)),
        "sparse rows": plain.to_sparse_csr(),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "quantized": torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8),
        "complex": plain.to(torch.complex64).conj(),
        "of 16 bits without sign": plain.to(torch.uint16),
    }
    if hasattr(torch, "float8_e8m0fnu"):  # since torch 2.7
        strange["powers of two in 8 bits"] = plain.to(torch.float8_e8m0fnu)
    if hasattr(torch, "float4_e2m1fn_x2"):  # since torch 2.8
        pairs = torch.zeros(7, 40, dtype=torch.uint8)
        strange["two numbers in 8 bits"] = pairs.view(torch.float4_e2m1fn_x2)
    return strange


def load_seecoder(path: Path) -> object:
    """Load a SeeCoder as the nodes do."""
    return from_tensors(read(path).weights, str(path))


def make_no_tensors() -> Iterator[Claim]:
    """Make every strange tensor in every place that reads tensors, in both formats."""
    keys: dict[str, tuple[str, Callable[[Path], object]]] = {
        "context": ("tokens", partial(load_context, kind="text")),
        "model": ("encoder.down.0.block.0.conv1.weight", load),
        "inspect": ("image_vae.quant_conv.weight", inspect),
        "seecoder": ("ctx.image.imencoder.patch_embed.proj.weight", load_seecoder),
        "LoRA": (f"{NATIVE}.lora_A.weight", load_lora),
    }
    for name, tensor in make_strange_tensors().items():
        for reader, (key, call) in keys.items():
            for new in (True, False):
                title = f"{name} as {reader}{'' if new else ', old format'}"
                yield Claim("tensors that are no weights", title, partial(save, {key: tensor}, new), call)


def load_lora(path: Path) -> object:
    """Read a LoRA for the tiny model, and make the model with it."""
    torch.manual_seed(0)
    changes = read_lora(path, Diffuser(TINY.diffuser))
    return [change.delta() for change in changes.values()]


def merge_lora(path: Path, strength: float) -> object:
    """Convert the tiny model with a LoRA of some strength."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        model = VersatileDiffusion(TINY, Diffuser(TINY.diffuser))
        for parameter in model.diffuser.parameters():
            parameter.data.normal_()
        whole = path.with_name("model.safetensors")
        save_model(whole, model)
    return convert(whole, path.with_name("out.safetensors"), loras=[(path, strength)], overwrite=True)


def make_loras() -> Iterator[Claim]:
    """Make LoRAs of other shapes, values and methods, and strengths that make no weights."""
    width = TINY.diffuser.model_channels
    down, up = torch.randn(4, width), torch.randn(width, 4)
    bad: dict[str, dict[str, Tensor]] = {
        "rank 0": {"lora_A.weight": torch.ones(0, width), "lora_B.weight": torch.ones(width, 0)},
        "0-d": {"lora_A.weight": torch.tensor(1.0), "lora_B.weight": up},
        "1-d": {"lora_A.weight": down[0], "lora_B.weight": up},
        "3-d": {"lora_A.weight": down[:, :, None], "lora_B.weight": up},
        "two ranks": {"lora_A.weight": down[:3].contiguous(), "lora_B.weight": up},
        "another width": {"lora_A.weight": torch.ones(4, width + 1), "lora_B.weight": up},
        "one half": {"lora_A.weight": down},
        "integers": {"lora_A.weight": down.long(), "lora_B.weight": up},
        "NaN": {"lora_A.weight": down * torch.nan, "lora_B.weight": up},
        "inf": {"lora_A.weight": down, "lora_B.weight": up * torch.inf},
        "alpha NaN": {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(torch.nan)},
        "alpha inf": {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(torch.inf)},
        "no alpha in its key": {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.ones(0)},
        "two alphas": {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.ones(2)},
        "a truth for alpha": {"lora_A.weight": down, "lora_B.weight": up, "alpha": torch.tensor(True)},
        "DoRA": {"lora_A.weight": down, "lora_B.weight": up, "dora_scale": torch.ones(width)},
        "control characters": {"\x1b[31m\n.lora_A.weight": down, "\x1b[31m\n.lora_B.weight": up},
    }
    for name, tensors in bad.items():
        named = {f"{NATIVE}.{key}": tensor for key, tensor in tensors.items()}
        for title, call in ((name, load_lora), (f"{name}, converted", partial(merge_lora, strength=1.0))):
            yield Claim(
                "LoRAs", title, lambda path, named=named: save_file(named, path), call, ".safetensors"
            )
    good = {f"{NATIVE}.lora_A.weight": down, f"{NATIVE}.lora_B.weight": up}
    huge = good | {f"{NATIVE}.alpha": torch.tensor(3e38)}
    for strength, tensors in (
        (float("nan"), good),
        (float("inf"), good),
        (1e38, good),
        (1e300, good),
        (9.0, huge),
        (1.0, {key: tensor * 1e30 for key, tensor in good.items()}),
    ):
        yield Claim(
            "LoRAs",
            f"strength {strength}",
            lambda path, tensors=tensors: save_file(tensors, path),
            partial(merge_lora, strength=strength),
            ".safetensors",
        )


def write_sizes(sizes: dict, path: Path) -> None:
    """Write a file of one tensor per part that states these sizes."""
    parts = ("diffuser.time_embed", "diffuser.data.image", "image_vae", "clip_text", "clip_vision")
    save_file({f"{part}.a": torch.zeros(1) for part in parts}, path, {"vd_config": json.dumps(sizes)})


SIZES: dict[str, list[tuple[tuple, object]]] = {
    "2000 kinds of contexts": [(("diffuser", "context"), {f"kind_{number}": 8 for number in range(2000)})],
    "64 levels of 64 blocks": [
        (("diffuser", "channel_mult"), [1] * 64),
        (("diffuser", "num_res_blocks"), [64] * 64),
        (("diffuser", "attention"), [True] * 64),
    ],
    "16 levels of 16 blocks": [
        (("diffuser", "channel_mult"), [1] * 16),
        (("diffuser", "num_res_blocks"), [16] * 16),
        (("diffuser", "attention"), [True] * 16),
    ],
    "no heads": [(("diffuser", "num_heads"), 0)],
    "three heads": [(("diffuser", "num_heads"), 3)],
    "no tokens": [(("text_vae", "max_tokens"), 0)],
    "131072 tokens": [(("text_vae", "max_tokens"), 131072)],
    "10^12 timesteps": [(("schedule", "timesteps"), 10**12)],
    "a kind without a name": [(("diffuser", "context"), {"": 40})],
    "a kind with a point": [(("diffuser", "context"), {"a.b": 40})],
    "a kind called forward": [(("diffuser", "context"), {"forward": 40})],
    "a kind with control characters": [(("diffuser", "context"), {"\x1b[31mx\n": 40})],
    "as large as it may be": [
        (("diffuser", "channel_mult"), [1] * 6),
        (("diffuser", "num_res_blocks"), [5] * 6),
        (("diffuser", "attention"), [True] * 6),
        (("diffuser", "model_channels"), 131072),
        (("clip", "text", "layers"), 48),
        (("clip", "text", "width"), 131072),
        (("clip", "text", "mlp_width"), 131072),
        (("image_vae", "channel_mult"), [1] * 8),
    ],
}


def make_sizes() -> Iterator[Claim]:
    """Make sizes in a header that no model has; the last is possible, but its tensors are not there."""
    for name, changes in SIZES.items():
        stated = json.loads(json.dumps(replace(TINY).to_dict()))
        for place, value in changes:
            put(stated, place, value)
        yield Claim("sizes and their products", name, partial(write_sizes, stated), load, ".safetensors")
        if name != "as large as it may be":  # which can be described
            yield Claim(
                "sizes and their products",
                f"{name}, inspected",
                partial(write_sizes, stated),
                inspect,
                ".safetensors",
            )


def write_long_header(path: Path) -> None:
    """Write an array whose header claims a gigabyte, which the file has and the disk has not."""
    path.write_bytes(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
    os.truncate(path, 1 << 30)


def make_contexts() -> Iterator[Claim]:
    """Make contexts of kinds, weights and values that cannot be."""
    unit = torch.nn.functional.normalize(torch.randn(1, 7, 40), dim=-1)
    bad: dict[str, tuple[dict[str, Tensor], str]] = {
        "no kind": ({"tokens": unit}, ""),
        "a kind with control characters": ({"tokens": unit}, "te\x1b[2Jxt\n"),
        "five rows of token weights": ({"tokens": unit, "emphasis": torch.ones(5, 7)}, "text"),
        "token weights NaN": ({"tokens": unit, "emphasis": torch.full((1, 7), torch.nan)}, "text"),
        "weights of tokens that are not there": ({"tokens": unit, "null_emphasis": torch.ones(1, 7)}, "text"),
        "another batch of unconditional tokens": (
            {"tokens": unit.repeat(3, 1, 1), "null": unit.repeat(2, 1, 1)},
            "text",
        ),
        "no sample": ({"tokens": unit[:0]}, "text"),
    }
    for name, (tensors, kind) in bad.items():
        make = partial(save_context_file, tensors, kind)
        yield Claim("contexts", name, make, load_context, ".safetensors")
    normalise = partial(load_context, kind="image", normalise=True)
    for name, scale in (("zeros", 0.0), ("denormal", 1e-42), ("nearly zero", 1e-30)):
        yield Claim(
            "contexts",
            name,
            lambda path, s=scale: np.save(path, unit.double().numpy() * s),
            normalise,
            ".npy",
        )
    yield Claim("contexts", "a header of 1 GB", write_long_header, partial(load_context, kind="text"), ".npy")
    yield Claim(
        "contexts", "an archive called .npy", write_archive, partial(load_context, kind="text"), ".npy"
    )


def save_array(array: np.ndarray, path: Path) -> None:
    """Write an array."""
    np.save(path, array)


def save_context_file(tensors: dict[str, Tensor], kind: str, path: Path) -> None:
    """Write tensors as a context of some kind."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"vd_kind": kind})


def write_archive(path: Path) -> None:
    """Write numpy's archive under the name of an array."""
    with path.open("wb") as file:
        np.savez(file, np.ones((7, 40), np.float32))


def try_claim(claim: Claim, path: Path) -> Result:
    """Load one bad file -> how that ended."""
    try:
        claim.load(path)
    except Exception as error:
        result = judge_error(error)
        return (
            result if result.said.isprintable() else Result("lost", f"control characters in {result.said!r}")
        )
    return Result("wrong", "it was loaded")


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """All cases, or about a share of them, at least one of each kind."""
    warnings.simplefilter("ignore")  # torch's, about formats that are old or new
    # imports what is imported once, so that no refusal is charged with it
    build(TINY, ["clip_text", "clip_vision", "image_vae"])
    rng, seen = random.Random(seed), set()
    claims = [*make_no_tensors(), *make_loras(), *make_sizes(), *make_contexts()]
    for number, claim in enumerate(claims):
        if claim.kind in seen and rng.random() >= share:
            continue
        seen.add(claim.kind)
        place = folder / str(number)
        place.mkdir()
        path = place / f"file{claim.ending}"
        claim.make(path)
        table.add(claim.kind, claim.name, run_forked(partial(try_claim, claim, path)), bounded=True)
