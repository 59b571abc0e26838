"""workflows/README.md is what the workflow files say, and holds each with its picture."""

from PIL import Image

from tools.workflow_page import FOLDER, GROUPS, page


def test_the_page_is_what_the_files_say():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == page(), "run: python -m tools.workflow_page"


def test_every_workflow_stands_in_one_group():
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(path.stem for path in FOLDER.glob("*.json"))


def test_every_workflow_has_a_picture():
    for path in FOLDER.glob("*.json"):
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.size == (256, 256), path
