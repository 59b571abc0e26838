"""Run a ComfyUI workflow file with this pack's nodes; `--help` says how, `runner/` does it."""

import sys

from runner.command import run_as_script

if __name__ == "__main__":
    sys.exit(run_as_script())
