"""What the tests of training on anyone's pictures share: pictures, processes, and how results compare."""

import json
import socket

import torch
from PIL import Image

from vd_core.checkpoints.load import load
from vd_core.choices import RECIPES
from vd_core.training.settings import Settings

CAPTIONS = ("red apple, noto style", "a cat's hat, flat style", "two dogs don't run, 3d style")
DUAL, FOUR = RECIPES["dual"], RECIPES["four"]
QUICK = Settings(stages=((DUAL, 6),), size=32, batch=2, lr=1e-3, warmup=2, save_every=4, sheet_size=0)
COMMAND = [
    "--flows",
    "dual",
    "--steps",
    "6",
    "--batch",
    "4",
    "--size",
    "32",
    "--sheet",
    "0",
    "--precision",
    "fp32",
    "--ema",
    "0",
]


def write_pictures(folder):
    """Three pictures with captions; returns the folder."""
    generator = torch.Generator().manual_seed(0)
    for number, caption in enumerate(CAPTIONS):
        pixels = torch.randint(0, 256, (4, 4, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).resize((32, 32)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    return folder


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def launcher(count):
    """Return the arguments of Python that start so many processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return [
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={count}",
        f"--master_port={port}",
        "--master_addr=127.0.0.1",
    ]


def apart(weights, others, models):
    """How far two results are from each other, as a share of how far they went (squares).

    Of gradients near zero AdamW keeps the sign only, so single weights may differ by more than the rest.
    """
    start = {
        f"diffuser.{key}": value
        for key, value in load(models / "tiny.safetensors").diffuser.state_dict().items()
    }
    moved = sum((weight - start[key]).square().sum() for key, weight in weights.items())
    return sum((weight - others[key]).square().sum() for key, weight in weights.items()) / moved
