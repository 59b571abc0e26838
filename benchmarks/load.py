"""Measure the way from file to first step.

`python benchmarks/load.py [--size full] [--flow image-variation] [--file-dtype float16] --scratch DIR`

Writes once a file of our layout with random weights of the layers that a flow needs, one tensor in memory at
a time. Then, taking turns, each in a fresh process and from a warm disk cache: reading of the needed bytes
into memory and nothing else, our loader, and the plain way (a model with initialised weights, the whole file
as a dictionary, `load_state_dict`). What a loader leaves to the first step counts as loading: its time is
that until the model is there plus what the first step takes longer than the second. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import gettempdir

import torch
from safetensors.torch import load_file
from torch import Tensor

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.cases import FLOWS, Case, add_size_options, make_case
from benchmarks.measure import (
    DTYPES,
    add_machine_options,
    compute_ratios,
    read_memory,
    run_in_child,
    write_record,
)
from benchmarks.speed import make_step
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import build, collect_state, list_parts
from vd_core.checkpoints.write import make_metadata, write_safetensors
from vd_core.diffuser.model import Diffuser

CONTESTANTS = ("read", "ours", "plain")


class Drawn(Mapping):
    """A tensor for every key and shape, drawn when it is asked for; its rows repeat, so that drawing costs
    nothing."""

    def __init__(self, shapes: Mapping[str, torch.Size]):
        self.shapes = shapes

    def __getitem__(self, key: str) -> Tensor:
        shape = self.shapes[key]
        return (
            torch.ones(shape)
            if len(shape) == 1
            else (torch.randn(shape[1:]) * shape[1:].numel() ** -0.5).expand(shape)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def list_flow_parts(case: Case) -> list[str]:
    """List the parts of the diffuser that a flow needs."""
    wanted = {
        "diffuser.time_embed",
        f"diffuser.data.{case.data}",
        *(f"diffuser.context.{kind}" for kind in case.kinds),
    }
    return [part for part in list_parts(case.config) if part in wanted]


def write_random_file(case: Case, options: argparse.Namespace) -> Path:
    """Write the file of a case's layers if it is not there."""
    path = options.scratch / f"vd-{options.size}-{options.flow}-{options.file_dtype}.safetensors"
    if not path.exists():
        shapes = {
            key: tensor.shape
            for key, tensor in collect_state(build(case.config, list_flow_parts(case))).items()
        }
        write_safetensors(path, Drawn(shapes), make_metadata(case.config), DTYPES[options.file_dtype])
    return path


def read_bytes(path: Path) -> list[bytearray]:
    """Read all tensors' bytes, each in memory of its own."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        sizes = [
            end - start
            for key, entry in header.items()
            if key != "__metadata__"
            for start, end in [entry["data_offsets"]]
        ]
        buffers = [bytearray(size) for size in sizes]
        for buffer in buffers:
            file.readinto(buffer)
    return buffers


def load_plainly(path: Path, case: Case) -> Diffuser:
    """Load without care for time and memory."""
    diffuser = Diffuser(case.config.diffuser, [case.data], sorted(set(case.kinds)))
    diffuser.load_state_dict(
        {key.removeprefix("diffuser."): tensor for key, tensor in load_file(path).items()}
    )
    return diffuser.to(case.dtype)


def measure_case(path: Path, case: Case, contestant: str) -> dict:
    """Measure one contestant in this process, which must be a fresh one."""
    before, start = read_memory("VmRSS"), time.perf_counter()
    if contestant == "read":
        held = read_bytes(path)
        return {
            "seconds": time.perf_counter() - start,
            "resident": read_memory("VmHWM") - before,
            "bytes": sum(map(len, held)),
        }
    diffuser = (
        load(path, parts=list_flow_parts(case), dtype=case.dtype).diffuser
        if contestant == "ours"
        else load_plainly(path, case)
    )
    loaded, peak = time.perf_counter() - start, read_memory("VmHWM") - before
    step, steps = make_step(case, diffuser.to(case.device)), []
    with torch.inference_mode():
        for _ in range(2):
            start = time.perf_counter()
            step()
            steps.append(time.perf_counter() - start)
    return {"seconds": loaded + steps[0] - steps[1], "loaded": loaded, "steps": steps, "resident": peak}


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print and write what the command line asks for; returns the row."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size_options(parser)
    add_machine_options(parser)
    parser.add_argument("--flow", choices=FLOWS, default="image-variation")
    parser.add_argument("--file-dtype", choices=DTYPES, default="float16")
    parser.add_argument(
        "--scratch", type=Path, default=Path(gettempdir()), help="folder for the file, which stays there"
    )
    # how the fresh processes are called
    parser.add_argument("--here", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    case = make_case(options.flow, options, DTYPES[options.dtype])
    path = write_random_file(case, options)
    if options.here:
        print(json.dumps(measure_case(path, case, options.here)))
        return []
    runs = {name: [] for name in CONTESTANTS}
    for number in range(options.repeats + 1):
        for name in CONTESTANTS:
            run = run_in_child("load", [*arguments, "--here", name])
            if number:  # the first round warms the disk cache
                runs[name].append(run)
    seconds = {name: [run["seconds"] for run in those] for name, those in runs.items()}
    needed = (
        sum(tensor.numel() for tensor in collect_state(build(case.config, list_flow_parts(case))).values())
        * case.dtype.itemsize
    )
    peaks = {name: max(run["resident"] for run in those) for name, those in runs.items()}
    row = {
        "what": options.flow,
        **{name: getattr(options, name) for name in ("size", "file_dtype", "dtype", "repeats")},
        "seconds": seconds,
        "medians": {name: median(values) for name, values in seconds.items()},
        "to_reading": compute_ratios(seconds, "read"),
        "weights": needed,
        "peaks": peaks,
        "peak_to_weights": peaks["ours"] / needed,
    }
    for name in CONTESTANTS:
        print(f"{name:6} {row['medians'][name]:.3f} s, at most {peaks[name] / 2**20:.0f} MiB while loading")
    times = f"{row['to_reading']['ours']:.2f}x the time of reading (plain {row['to_reading']['plain']:.2f}x)"
    print(f"ours: {times}, peak {row['peak_to_weights']:.2f}x the {needed / 2**20:.0f} MiB of its weights")
    write_record("load", options, [row])
    return [row]


if __name__ == "__main__":
    main()
