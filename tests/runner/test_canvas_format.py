"""Workflow files as ComfyUI's page saves them."""

import json

import pytest
from made_up_nodes import Paint
from PIL import Image


def canvas(**changes):
    """Words -> Painter (text linked) -> SaveImage, and a note, as ComfyUI's page saves them."""
    words = {"id": 5, "type": "Words", "mode": 0, "inputs": [], "widgets_values": ["sea"]}
    painter = {
        "id": 6,
        "type": "Paint",
        "title": "Sea",
        "mode": 0,
        "widgets_values": ["", 4, "randomize", 0.25, "round", True],
        "inputs": [
            {"name": "image", "type": "IMAGE", "link": None},
            {"name": "text", "link": 1, "widget": {"name": "text"}},
        ],
    }
    save = {
        "id": 7,
        "type": "SaveImage",
        "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
        "widgets_values": ["sea"],
    }
    note = {"id": 8, "type": "Note", "widgets_values": ["A note."]}
    return {
        "nodes": [words, painter | changes, save, note],
        "links": [[1, 5, 1, 6, 1, "STRING"], [2, 6, 0, 7, 0, "IMAGE"]],
    }


def test_canvas_files_are_converted(run):
    assert run(canvas())[:2] == (0, "output/sea_00001_.png\n")
    assert Paint.calls == [
        {"text": "sea", "seed": 4, "level": 0.25, "style": "round", "wide": True, "noise": None}
    ]
    with Image.open("output/sea_00001_.png") as picture:
        assert json.loads(picture.text["workflow"]) == canvas()
        assert json.loads(picture.text["prompt"])["6"]["inputs"]["text"] == ["5", 1]


def test_links_as_objects_and_values_by_name(run):
    flow = canvas(widgets_values={"text": "", "seed": 2, "level": 0, "style": "flat", "wide": False})
    flow["links"][0] = {
        "id": 1,
        "origin_id": 5,
        "origin_slot": 1,
        "target_id": 6,
        "target_slot": 1,
        "type": "STRING",
    }
    assert run(flow)[0] == 0
    assert (Paint.calls[0]["text"], Paint.calls[0]["seed"]) == ("sea", 2)


def test_the_upload_widget_of_load_image_is_skipped(run, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    load = {"id": 1, "type": "LoadImage", "widgets_values": ["in.png", "image"]}
    show = {"id": 2, "type": "PreviewImage", "inputs": [{"name": "images", "link": 3}], "widgets_values": []}
    assert run({"nodes": [load, show], "links": [[3, 1, 0, 2, 0, "IMAGE"]]})[:2] == (
        0,
        "output/preview_00001_.png\n",
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"mode": 2},
            "Sea is muted, which only ComfyUI's canvas resolves: use its export in API format instead.",
        ),
        ({"mode": 4}, "Sea is bypassed"),
        ({"type": "Reroute"}, "Sea exists only on ComfyUI's canvas: use its export in API format instead."),
        ({"type": "KSampler"}, "Sea needs ComfyUI itself"),
        ({"widgets_values": ["", 4, 0.25, "round", True, None, 1, 2]}, "Sea has 8 widget values"),
        ({"widgets_values": ["", 4]}, "Sea (node 6), input level: it is required, but missing."),
        (
            {"inputs": [{"name": "text", "link": 77}]},
            "The canvas file is damaged (KeyError: 77): use its export in API format instead.",
        ),
        ({"id": [1]}, "linked to node 6, which does not exist"),
    ],
)
def test_canvas_files_that_do_not_say_enough_are_refused(refused, changes, sentence):
    assert sentence in refused(canvas(**changes))


def test_subgraphs_are_refused(refused):
    flow = canvas(type="0-1") | {"definitions": {"subgraphs": [{"id": "0-1"}]}}
    assert "Sea exists only on ComfyUI's canvas" in refused(flow)


def test_the_api_twin_is_named_where_there_is_one(refused, tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "flow.json").write_text("{}")
    assert f"use {tmp_path / 'api' / 'flow.json'} instead" in refused(canvas(mode=2))
