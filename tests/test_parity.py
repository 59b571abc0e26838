"""The golden cases of the official code, one test each; `tests/parity.py` prints the same as a table."""

from pathlib import Path

import parity
import pytest

CASES = parity.find_cases([str(Path(__file__).parent / "golden" / "vd")])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_equal_to_the_official_code(case):
    verdict = parity.run(case)
    assert not verdict.failure, f"{verdict.failure} (limit {verdict.limit})"


def test_all_cases_are_there():
    assert len(CASES) == 29


def test_a_wrong_value_fails():
    case = next(case for case in CASES if case.name == "color_adjust")
    verdict = parity.judge(case, iter([("out", case.io["out"] + 2e-5, case.io["out"])]))
    assert verdict.failure
