"""Picture files read by ComfyUI's LoadImage and by ours: equal to the last bit where core reads them
rightly."""

import pytest
from picture_files import picture_files

pytestmark = pytest.mark.comfyui


def test_at_least_thirty_files_are_read_as_core_reads_them(inside):
    differences, _ = inside("pictures_in_comfyui.py")
    same = [file.name for file in picture_files() if file.equals_core]
    assert len(same) >= 30
    assert {name: differences[name] for name in same if differences[name] != 0} == {}
