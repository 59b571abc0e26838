"""A small share of `python tests/torture.py`: nothing is lost, run, hung or wrong."""

import sys
from pathlib import Path

import pytest

from tools.supply_chain import find_broken_rules
from tools.torture.__main__ import KINDS
from tools.torture.forked import Table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are bounded by Linux's means")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_breaks(kind, tmp_path: Path):
    table = Table()
    KINDS[kind](tmp_path, 1, 0.004, table)
    assert table.rows and not table.bad


def test_the_rules_of_node_packs_are_kept():
    assert not list(find_broken_rules())
