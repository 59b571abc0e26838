"""The mutations fit the code, and what the tests notice is told apart from what they do not."""

import shutil

import pytest

from tools.mutations import MUTATIONS, ROOT, Mutation, find_noticing_test


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_code_and_names_tests(mutation):
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert mutation.change(text) != text
    assert all((ROOT / test.split("::")[0]).is_file() for test in mutation.tests.split())


@pytest.mark.parametrize(("new", "noticed"), [("a - b", "test_sums.py::test_add"), ("b + a", "")])
def test_what_no_test_notices_is_told(tmp_path, new, noticed):
    (tmp_path / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_sums.py").write_text(
        "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
    )
    mutation = Mutation("sum", "sums.py", "a + b", new, "test_sums.py")
    assert find_noticing_test(tmp_path, mutation) == noticed
    assert "a + b" in (tmp_path / "sums.py").read_text()


def test_code_that_moved_on_is_told(tmp_path):
    shutil.copy(__file__, tmp_path)
    with pytest.raises(ValueError, match="0 times, not once"):
        Mutation("gone", "sums.py", "a + c", "a", "test_sums.py").change("a + b")
