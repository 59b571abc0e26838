"""Check types with mypy: the library, the runner, and the node pack: `python -m tools.check_types`.

The pack is imported under a name that its host makes up, and its nodes import `..vd_core` from it; mypy finds
them through a folder in which the checkout has such a name.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACK = "versatile_diffusion_pack"


def check(folder: Path, *arguments: str) -> bool:
    """Run mypy in `folder` with the project's settings. Return whether it found nothing."""
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *arguments]
    return subprocess.run([*command, "--cache-dir", str(ROOT / ".mypy_cache")], cwd=folder).returncode == 0


def main() -> int:
    """Check both; exit status 1 if either has findings."""
    library = check(ROOT, "-p", "vd_core", "-p", "seecoder", "-p", "runner", "-m", "run_workflow")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PACK).symlink_to(ROOT, target_is_directory=True)
        # what they import is checked above
        pack = check(Path(folder), "--follow-imports", "silent", "-p", f"{PACK}.nodes")
    return 0 if library and pack else 1


if __name__ == "__main__":
    sys.exit(main())
