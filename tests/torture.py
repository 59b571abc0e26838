"""Try to break the pack: `python tests/torture.py [--quick] [--seed N] [--only files …]`, the same as
`python -m tools.torture`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of tests/

from tools.torture.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
