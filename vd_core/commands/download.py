"""`versatile-diffusion download`: fetch the published files."""

from __future__ import annotations

import argparse

from ..checkpoints.download import download, plan_pipeline, plan_single_files


def run(options: argparse.Namespace) -> None:
    """List the files with their sizes, then fetch them."""
    if options.to is None:
        files = plan_pipeline(options.repository, options.endpoint)
    else:
        files = plan_single_files(options.precision, options.endpoint)
    print(f"{len(files)} files, {sum(file.bytes for file in files):,} bytes")
    if options.dry_run:
        for file in files:
            print(f"  {file.bytes:>14,}  {file.repository}/{file.file}")
        return
    for path in download(files, options.to, options.endpoint, print):
        print(path)
