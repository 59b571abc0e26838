"""`versatile-diffusion inspect`: say what model files hold."""

from __future__ import annotations

import argparse
import json

from ..checkpoints.report import inspect, write_report


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    files = "weights file or diffusers folder; several are seen as one model"
    parser.add_argument("files", nargs="+", metavar="FILE", help=files)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    report = inspect(options.files)
    print(json.dumps(report, indent=1) if options.json else write_report(report))
