"""Pictures that carry their workflow, and the names of files that are saved."""

import json
from datetime import datetime

from made_up_nodes import Paint, node, painting
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runner.command import main
from runner.prepare import expand_names


def test_a_picture_that_carries_its_workflow_is_run_again(run, tmp_path):
    assert run(painting(seed=3))[0] == 0
    (tmp_path / "output/art_00001_.png").rename(tmp_path / "made.png")
    assert main([str(tmp_path / "made.png"), "--set", "Painter.level=1"]) == 0
    assert [call["seed"] for call in Paint.calls] == [3, 3] and Paint.calls[-1]["level"] == 1


def test_a_picture_with_a_canvas_alone_is_run_too(run, tmp_path):
    painter = {"id": 1, "type": "Paint", "widgets_values": ["x", 1, "fixed", 0.5, "flat", False]}
    save = {
        "id": 2,
        "type": "SaveImage",
        "inputs": [{"name": "images", "link": 5}],
        "widgets_values": ["art"],
    }
    info = PngInfo()
    info.add_itxt("workflow", json.dumps({"nodes": [painter, save], "links": [[5, 1, 0, 2, 0, "IMAGE"]]}))
    Image.new("RGB", (8, 8)).save(tmp_path / "canvas.png", pnginfo=info)
    run(painting())  # for the made-up classes
    assert main([str(tmp_path / "canvas.png")]) == 0 and len(Paint.calls) == 2


def test_the_body_of_a_post_is_a_workflow(run):
    assert run({"prompt": painting(), "client_id": "x", "extra_data": {}})[0] == 0


def test_names_of_files_are_filled_in(run):
    flow = painting(seed=5)
    name = "%date:yyyy-MM-dd%/%Painter.seed%-%width%x%height%-%year%%unknown%"
    flow["2"]["inputs"]["filename_prefix"] = name
    status, out, _ = run(flow)
    now = datetime.now()
    assert status == 0 and out == f"output/{now:%Y-%m-%d}/5-8x8-{now:%Y}%unknown%_00001_.png\n"


def test_dates_are_written_as_the_page_writes_them():
    now = datetime(2026, 3, 7, 8, 5, 9)
    text = "%date:yyyy yy yyy M MM d dd h hh m mm s ss%"
    prompt = {"1": node("SaveImage", filename_prefix=text)}
    expand_names(prompt, now)
    assert prompt["1"]["inputs"]["filename_prefix"] == "2026 26 yyy 3 03 7 07 8 08 5 05 9 09"
