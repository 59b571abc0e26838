"""The NSD test set's shape, 982 rows, through `versatile-diffusion reconstruct`, timed.

    python -m research.brain_decoding.nsd [--rows 982] [--count 1] [--steps 20] [--dtype bfloat16] [--out DIR]

The tokens are stand-ins: those of the embedded pictures, disturbed. Stop it and start it again: it goes on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from vd_core import MODEL, load
from vd_core.__main__ import main
from vd_core.choices import DTYPES

from .predictions import predict

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=982)
    parser.add_argument("--count", type=int, default=1, help="samples per row; default: 1")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--out", type=Path, default=Path("output/nsd"), metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokens = options.out / "image_tokens.npy"
    if not tokens.exists():
        given = predict(
            load(MODEL, parts=["clip_text", "clip_vision", "image_vae", "diffuser.data.image"]), 32
        )
        rows = given.images.repeat(-(-options.rows // len(given.images)), 1, 1)[: options.rows]
        np.save(tokens, rows.numpy())
    started = time.monotonic()
    numbers = {"--count": options.count, "--steps": options.steps, "--batch": options.batch, "--cfg": 2}
    arguments = [str(entry) for option, value in numbers.items() for entry in (option, value)]
    job = ["reconstruct", str(tokens), "--out", str(options.out / "job"), "--dtype", options.dtype]
    status = main([*job, *arguments])
    seconds = time.monotonic() - started
    print(f"{options.rows} rows of {options.count} samples, {options.steps} steps: {seconds:.0f} s")
    raise SystemExit(status)
