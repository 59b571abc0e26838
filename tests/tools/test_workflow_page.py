"""workflows/README.md, and the cards of the workflows."""

from PIL import Image

from tools.lay_out_workflows import WORKFLOWS
from tools.workflow_page import list_groups, write_page

CANVASES = sorted(path for path in WORKFLOWS.rglob("*.json") if path.parent.name != "api")


def test_the_page_is_what_the_files_say():
    assert (WORKFLOWS / "README.md").read_text(encoding="utf-8") == write_page(), (
        "run: python -m tools.workflow_page"
    )


def test_every_workflow_stands_in_one_group():
    assert sorted(path for paths in list_groups().values() for path in paths) == CANVASES


def test_every_workflow_that_runs_at_once_has_a_card():
    for path in CANVASES:
        if not path.name.startswith("real-"):
            with Image.open(path.with_suffix(".jpg")) as picture:
                assert picture.width == picture.height >= 256, path
