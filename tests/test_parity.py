"""The golden cases of the official code, one test each; `tests/parity.py` prints the same as a table."""

from pathlib import Path

import parity
import pytest
import torch

CASES = parity.find_cases([str(Path(__file__).parent / "golden")])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.entry or case.folder.name)
def test_equal_to_the_official_code(case):
    verdict = parity.run(case)
    assert not verdict.failure, f"{verdict.failure} (limit {verdict.limit})"


def test_all_cases_are_there():
    sets = [case.folder.name if case.entry else case.root.name for case in CASES]
    assert (sets.count("vd"), sets.count("seecoder"), sets.count("diffusers"), len(sets)) == (29, 11, 15, 55)


def test_a_broken_case_fails_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"case": "attention"}')
    (tmp_path / "io.safetensors").write_bytes(b"no tensors")
    assert parity.run(parity.Case(tmp_path)).failure
    (tmp_path / "config.json").write_text("{")
    assert parity.run(parity.Case(tmp_path)).failure.startswith("JSONDecodeError")


def test_a_broken_set_hides_no_other_case(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{")
    for number, content in enumerate(("{", "[]", '{"cases": [{}]}')):
        (tmp_path / f"set{number}").mkdir()
        (tmp_path / f"set{number}" / "cases.json").write_text(content)
    assert parity.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("0 passed, 4 failed\n")


def test_a_wrong_value_fails():
    case = next(case for case in CASES if case.name == "color_adjust")
    verdict = parity.judge(case, iter([("out", case.io["out"] + 2e-5, case.io["out"])]))
    assert verdict.failure


def test_errors_may_be_counted_as_shares_of_the_largest_value():
    case = next(case for case in CASES if case.name == "decoder")
    golden = torch.tensor([100.0, 0.0])
    for wrong, fails in ((9e-4, False), (1.1e-3, True)):  # the limit is 1e-5
        assert bool(parity.judge(case, iter([("out", golden + wrong, golden)])).failure) is fails
