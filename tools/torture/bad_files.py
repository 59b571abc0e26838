"""Bad model files of every kind, and what each loader says to them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .bad_pickles import make_attacks
from .bad_tensors import change_tensors
from .damaged_files import flip_bits, truncate
from .forked import Table, run_forked
from .good_files import Case, Good, make_goods, try_case, write
from .strange_files import make_special


def make_hostile(found: list[Good], canary: Path) -> Iterator[Case]:
    """Make pickles with code."""
    for number, (name, data) in enumerate(make_attacks(canary)):
        yield Case("pickles with code", name, found[number % len(found)], write(data), False, ".pth")


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """All cases, or about a share of them."""
    rng, canary, found = random.Random(seed), folder / "canary", make_goods(folder)
    cases = [
        case for kind in (truncate, flip_bits, change_tensors, make_special) for case in kind(found, rng)
    ]
    cases += make_hostile(found, canary)
    seen: set[str] = set()
    for number, case in enumerate(cases):
        if case.kind in seen and rng.random() >= share:
            continue
        seen.add(case.kind)
        place = folder / str(number)
        place.mkdir()
        path = place / f"file{case.ending}"
        case.make(path)
        table.add(case.kind, case.name, run_forked(partial(try_case, case, path, canary)))
        canary.unlink(missing_ok=True)
        shutil.rmtree(place)
