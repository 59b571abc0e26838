"""The checkout has all that the adapter relies on; the list is for bug reports."""

import pytest

from tools.comfyui_interface import report

pytestmark = pytest.mark.comfyui


def test_the_checkout_has_what_the_adapter_uses(checkout):
    rows = list(report(checkout))
    assert len(rows) > 100
    assert not [row for row in rows if row[0] == "MISSING"]
