"""Pictures with captions, which trainings in these tests learn."""

import pytest
from trainings import write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))
