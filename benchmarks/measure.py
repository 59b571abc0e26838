"""Side by side measurement: contestants take turns, so that all meet the same load of the machine; medians,
ratios, records."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[1]
# that decide how fast matrices are multiplied
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)
GEMM = 2048
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of our side; the plain baseline is float32 always"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="file to write the record to")


def synchronize(device: str) -> None:
    """Wait until an accelerator has done all its work."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(torch.device(device))


def alternate(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Measure the seconds of every call, by contestant: A B A B …, after one call of each that does not
    count."""
    seconds = {name: [] for name in functions}
    with torch.inference_mode():
        for number in range(repeats + 1):
            for name, function in functions.items():
                synchronize(device)
                start = time.perf_counter()
                function()
                synchronize(device)
                if number:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def compute_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Compute how many times as long `slow` takes: the median over the rounds, in each of which both ran one
    after the other."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def compute_ratios(measured: Mapping[str, Sequence[float]], ours: str = "ours") -> dict[str, float]:
    """Compute the ratio of every other contestant to ours."""
    return {name: compute_ratio(values, measured[ours]) for name, values in measured.items() if name != ours}


def make_matrix_product(dtype: torch.dtype, device: str) -> Callable[[], object]:
    """Make a product of square matrices: its rate is the yardstick of what the machine can do now."""
    a, b = (torch.randn(GEMM, GEMM).to(device, dtype) for _ in range(2))
    return lambda: a @ b


def compute_matrix_rate(seconds: Sequence[float]) -> float:
    """Compute FLOP per second from the times of `make_matrix_product`."""
    return 2 * GEMM**3 / median(seconds)


def read_memory(field: str) -> int:
    """Read bytes of this process in memory: "VmRSS" now, "VmHWM" at most. Linux only.

    Not `getrusage`: for a forked child process its maximum includes that of the parent.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}: memory can be measured on Linux only.")


def run_in_child(module: str, arguments: Sequence[str]) -> dict:
    """Run a benchmark's module in a fresh process with our settings; what it printed last, as JSON. Raises
    RuntimeError if it fails."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {child.stderr.strip()}")
    return json.loads(child.stdout.splitlines()[-1])


def describe_machine(device: str) -> dict:
    """Describe what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def write_record(benchmark: str, options: argparse.Namespace, rows: Sequence[dict]) -> None:
    """Write a run as JSON, if a file was asked for: the machine, when, which commit and command, and the
    rows."""
    if options.json is None:
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    record = {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "command": shlex.join(["python", f"benchmarks/{benchmark}.py", *sys.argv[1:]]),
        "machine": describe_machine(options.device),
        "rows": list(rows),
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
