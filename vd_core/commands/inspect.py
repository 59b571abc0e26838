"""`versatile-diffusion inspect`: say what model files hold."""

from __future__ import annotations

import argparse
import json

from ..checkpoints.report import inspect, write_report


def run(options: argparse.Namespace) -> None:
    """Print the report."""
    report = inspect(options.files)
    print(json.dumps(report, indent=1) if options.json else write_report(report))
