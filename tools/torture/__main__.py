"""Tries to break the pack: bad files, inputs, graphs, paths and crashes. Prints what was tried and how it
ended.

python -m tools.torture [--quick] [--seed N] [--only files …]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: children are forked

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import (  # noqa: E402
    bad_claims,
    bad_files,
    bad_graphs,
    bad_inputs,
    bad_rows,
    bad_servers,
    bad_vocabularies,
    disks,
    kills,
    writers,
)
from .forked import Table  # noqa: E402

KINDS = {
    "files": bad_files.torture,
    "claims": bad_claims.torture,
    "vocabularies": bad_vocabularies.torture,
    "graphs": bad_graphs.torture,
    "inputs": bad_inputs.torture,
    "rows": bad_rows.torture,
    "kills": kills.torture,
    "disks": disks.torture,
    "servers": bad_servers.torture,
    "writers": writers.torture,
}


def main(argv: list[str] | None = None) -> int:
    """Run all that is asked for; exit status 1 if anything was lost, executed, hung or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small share of the cases, at most three minutes, for every change",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, help="how many of the cases, 0..1")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args(argv)
    table, share = Table(), args.share if args.share is not None else 0.03 if args.quick else 1.0
    for name in args.only:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"torture_{name}_") as folder:
            KINDS[name](Path(folder), args.seed, share, table)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(table, table.costs(), sep="\n\n")
    return 1 if table.bad else 0


if __name__ == "__main__":
    sys.exit(main())
