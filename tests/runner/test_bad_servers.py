"""`run_workflow.py --server` on servers that lie, stall and leak.

Some of each kind that tools/torture tries.
"""

import pytest

from tools.torture.bad_servers import make_cases, run_once, try_lies, try_mutations, try_redirect
from tools.torture.forked import run_forked

EVERY = list(make_cases())
FEW = [(name, lies) for kind, name, lies in EVERY if kind != "servers that stall"][::2] + [
    (name, lies) for kind, name, lies in EVERY if kind == "servers that stall"
][::5]


def test_an_honest_one_is_believed(tmp_path):
    def honest():
        result, server = run_once({}, tmp_path)
        assert {authorization for _, authorization in server.requests} == {"Basic dXNlcjpzZWNyZXQ="}
        return result

    assert run_forked(honest).end == "survived"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == [
        "PreviewAny_00001.txt",
        "art_00001_.png",
    ]


@pytest.mark.parametrize(("name", "lies"), FEW, ids=[name for name, _ in FEW])
def test_lies_and_stalls_end_in_a_sentence_or_do_no_harm(tmp_path, name, lies):
    result = run_forked(lambda: try_lies(lies, tmp_path))
    assert result.end in ("refused", "survived"), result.said
    # a job needs no WebSocket; half a character is a name, and one from the root is read below the folder
    if lies.keys() != {"/ws"} and "half a character" not in name and name != "from the root":
        assert result.end == "refused", result.said


@pytest.mark.parametrize("status", [301, 307])
def test_a_password_stays_with_its_server(tmp_path, status):
    result = run_forked(lambda: try_redirect(status, tmp_path))
    assert (
        result.end == "refused" and "a redirect to http://" in result.said and "not followed" in result.said
    )


def test_changed_answers(tmp_path):
    result = run_forked(lambda: try_mutations(list(range(40)), tmp_path), seconds=60)
    assert result.end == "survived", result.said
    assert 5 < int(result.said) < 35
