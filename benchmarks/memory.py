"""What the flows need in memory: `python benchmarks/memory.py [--size full] [--dtype bfloat16]`.

Each flow, ours and the plain baseline's, runs two guided steps in a fresh process. Prints the bytes of its
weights, and what the process held at most beyond what it held before there was a model (resident, or on the
device if that is an accelerator). Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.baseline import make_plain_diffuser, make_plain_step
from benchmarks.cases import FLOWS, add_size_options, make_case
from benchmarks.measure import DTYPES, add_machine_options, read_memory, run_in_child, write_record
from benchmarks.speed import make_step

CONTESTANTS = ("ours", "baseline")


def measure_case(flow: str, contestant: str, options: argparse.Namespace) -> dict:
    """Measure two guided steps in this process, which must be a fresh one."""
    before = read_memory("VmRSS")
    case = make_case(flow, options, DTYPES[options.dtype] if contestant == "ours" else torch.float32)
    step = (
        make_step(case, case.diffuser)
        if contestant == "ours"
        else make_plain_step(case, make_plain_diffuser(case.diffuser))
    )
    with torch.inference_mode():
        step()
        step()
    weights = sum(weight.nbytes for weight in case.diffuser.parameters())
    on_device = (
        torch.cuda.max_memory_allocated(options.device) if torch.device(options.device).type == "cuda" else 0
    )
    return {
        "weights": weights,
        "before": before,
        "resident": read_memory("VmHWM") - before,
        "device": on_device,
    }


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print and write what the command line asks for; returns the rows."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_size_options(parser)
    add_machine_options(parser)
    parser.add_argument("--only", nargs="+", choices=FLOWS, default=list(FLOWS), help="flows to measure")
    # how the fresh processes are called
    parser.add_argument("--here", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.here:
        print(json.dumps(measure_case(options.only[0], options.here, options)))
        return []
    settings = {name: getattr(options, name) for name in ("size", "pixels", "batch", "dtype")}
    rows = []
    for flow in options.only:
        held = {
            name: run_in_child("memory", [*arguments, "--only", flow, "--here", name]) for name in CONTESTANTS
        }
        ours, plain = held["ours"], held["baseline"]
        peak = "device" if ours["device"] else "resident"
        rows.append(
            {
                "what": flow,
                **settings,
                **held,
                "peak": ours[peak],
                "baseline_peak": plain[peak],
                "ratio": plain[peak] / ours[peak],
            }
        )
        sizes = f"weights {ours['weights'] / 2**20:.0f} MiB, at most {ours[peak] / 2**20:.0f} MiB {peak}"
        print(
            f"{flow:16} {sizes}; baseline {plain[peak] / 2**20:.0f} MiB, {rows[-1]['ratio']:.2f}x", flush=True
        )
        write_record("memory", options, rows)  # after every row: a run that is stopped keeps them
    return rows


if __name__ == "__main__":
    main()
