"""A folder that a job works on."""

import pytest
from bulk_rows import content


@pytest.fixture
def folder(tmp_path):
    """Five pictures in a folder, the third of which is none."""
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    for number in range(5):
        (source / ("more" if number > 3 else ".") / f"{number}.png").write_bytes(
            b"nothing" if number == 2 else content(number)
        )
    return source
