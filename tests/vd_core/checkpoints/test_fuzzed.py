"""What the fuzzer found is replayed, and a small corpus of what it tried: refused in one sentence, or read.

`python -m tools.fuzz` finds more; a file here is called PARSER-WHAT.
"""

from pathlib import Path

import pytest

from tools.fuzz import PARSERS, attempt, try_bytes

CASES = sorted((Path(__file__).parent / "fuzzed").iterdir())


def test_there_are_cases_of_every_parser():
    assert {path.name.partition("-")[0] for path in CASES} == set(PARSERS)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_a_case_is_refused_in_one_sentence_or_read(path, tmp_path):
    try_bytes(path.name.partition("-")[0], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("said", ["no full stop", "two\nlines.", "short", "x" * 2000 + "."])
def test_what_is_no_sentence_is_noticed(said):
    def refuse():
        raise ValueError(said)

    with pytest.raises(AssertionError, match="no sentence"):
        attempt(refuse)
    with pytest.raises(KeyError):
        attempt(lambda: {}["what is no refusal"])
