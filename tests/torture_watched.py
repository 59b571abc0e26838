"""Torture whose cases may start no process, talk to nobody and write into one folder only.

python tests/torture_watched.py FOLDER SHARE
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from watch import watch  # noqa: E402

from tools.torture import forked  # noqa: E402
from tools.torture.__main__ import KINDS  # noqa: E402

# The other kinds start servers and processes themselves.
WATCHED = ("files", "claims", "vocabularies", "graphs", "inputs", "rows")


def main(folder: Path, share: float) -> int:
    """Print how the cases ended; the exit status is 1 where one ended badly or did what is not allowed."""
    answer, table = forked.answer, forked.Table()
    tempfile.tempdir = str(folder)

    def answer_watched(case: Callable[[], forked.Result], *others: int) -> None:
        refused = watch([str(folder)])

        def watched() -> forked.Result:
            result = case()
            return forked.Result("executed", refused[0]) if refused else result

        answer(watched, *others)

    forked.answer = answer_watched
    for kind in WATCHED:
        (folder / kind).mkdir()
        KINDS[kind](folder / kind, 1, share, table)
    print(table)
    return 1 if table.bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
