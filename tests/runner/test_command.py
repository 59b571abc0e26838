"""The workflow runner, with made-up node classes."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from made_up_nodes import Paint, node, paint, painting
from PIL import Image

from runner.command import main
from runner.pack import ROOT, load_pack

# Running


def test_pictures_are_saved_with_their_prompt_and_numbered(run, tmp_path):
    assert run(painting())[0] == 0
    status, out, err = run(painting())
    assert (status, out, err) == (0, "output/art_00002_.png\n", "Painter\nSaveImage\n")
    with Image.open(tmp_path / "output" / "art_00002_.png") as picture:
        assert json.loads(picture.text["prompt"]) == painting()
        assert np.asarray(picture).shape == (8, 8, 3) and np.asarray(picture)[0, 0, 0] == 127


def test_each_node_runs_once_after_those_it_needs_and_only_if_an_output_needs_it(run):
    flow = {
        "9": node("SaveImage", images=["4", 0], filename_prefix="late"),
        "8": node("PreviewImage", images=["4", 0]),
        "4": paint("Second", image=["3", 0]),
        "3": paint("First"),
        "7": paint("Unused", text="fail"),
    }
    status, out, err = run(flow)
    assert status == 0 and err.split() == ["First", "Second", "SaveImage", "PreviewImage"]
    assert sorted(out.split()) == ["output/late_00001_.png", "output/preview_00001_.png"]
    assert len(Paint.calls) == 2


def test_lists_travel_as_in_comfyui(run, tmp_path):
    flow = {
        "1": node("Words", text="a b c"),
        "2": node("Upper", word=["1", 0], mark="?"),
        "3": node("PreviewAny", "Loud words", source=["2", 0]),
        "9": node("Count", words=["1", 0]),
        "5": node("PreviewAny", "How many?", source=["9", 0]),
        "6": node("PreviewAny", "Joined", source=["1", 1]),
    }
    status, out, _ = run(flow)
    assert status == 0
    assert (tmp_path / "output" / "Loud-words_00001.txt").read_text() == "A?\nB?\nC?\n"
    assert (tmp_path / "output" / "How-many_00001.txt").read_text() == "3\n"
    assert "A?\nB?\nC?\noutput/Loud-words_00001.txt\n" in out and "a b c\noutput/Joined_00001.txt\n" in out


def test_a_long_title_is_cut_to_what_a_file_name_takes(run, tmp_path):
    flow = {"1": node("Words", text="a"), "2": node("PreviewAny", "画" * 100, source=["1", 1])}
    assert run(flow)[0] == 0
    (path,) = (tmp_path / "output").iterdir()
    assert set(path.name.partition("_")[0]) == {"画"} and path.name.endswith("_00001.txt")


def test_an_empty_list_means_no_call(run):
    flow = {
        "1": node("Words", text=""),
        "2": node("Upper", word=["1", 0], mark="?"),
        "3": node("PreviewAny", source=["2", 0]),
    }
    assert run(flow)[:2] == (0, "")


def test_nodes_run_without_gradients(run, monkeypatch):
    monkeypatch.setattr(
        Paint, "execute", lambda self, **_: (torch.ones(1, 8, 8, 3) * torch.is_inference_mode_enabled(),)
    )
    assert run(painting())[0] == 0
    assert np.asarray(Image.open("output/art_00001_.png")).min() == 255


def test_changes_from_the_command_line(run, tmp_path):
    options = [
        "Painter.text=a=b.c",
        "1.level=1",
        "Painter.style=round",
        "Painter.wide=True",
        "SaveImage.filename_prefix=sub/new",
    ]
    status, out, _ = run(
        painting(),
        "--seed",
        "7",
        "--output",
        "there",
        *(part for text in options for part in ("--set", text)),
    )
    assert (status, out) == (0, "there/sub/new_00001_.png\n")
    assert Paint.calls == [
        {"text": "a=b.c", "seed": 7, "level": 1.0, "style": "round", "wide": True, "noise": None}
    ]


def test_set_wins_over_seed_and_replaces_links(run):
    flow = painting(text=["3", 1]) | {"3": node("Words", text="a")}
    assert run(flow, "--seed", "7", "--set", "1.seed=3", "--set", "1.text=own")[0] == 0
    assert (Paint.calls[0]["seed"], Paint.calls[0]["text"]) == (3, "own")


def test_choices_that_are_not_text_keep_their_type(run):
    assert run(painting(noise="a"), "--set", "1.noise=2")[0] == 0
    assert Paint.calls[0]["noise"] == 2


def test_a_seed_that_nothing_takes_is_mentioned(run):
    status, _, err = run(
        {"1": node("Words", text="a"), "2": node("PreviewAny", source=["1", 1])}, "--seed", "1"
    )
    assert status == 0 and "no node of this workflow has a seed" in err


def test_a_node_that_refuses_gives_its_title_and_sentence(run):
    assert run(painting(text="fail")) == (4, "", "Painter\nPainter: The colour is unknown.\n")


def test_a_bug_is_not_hidden(run):
    with pytest.raises(KeyError):
        run(painting(text="bug"))


def test_interruption_is_quiet(run):
    assert run(painting(text="stop")) == (130, "", "Painter\n")


def test_folders_reach_the_pack_for_the_time_of_the_run(run, tmp_path, monkeypatch):
    seen, execute = [], Paint.execute

    def look(*args, **inputs):
        seen.append((os.environ["VD_MODELS"], os.environ["VD_INPUT"]))
        return execute(*args, **inputs)

    monkeypatch.setattr(Paint, "execute", look)
    monkeypatch.setenv("VD_MODELS", "before")
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    flow = {**painting(image=["9", 0]), "9": node("LoadImage", image="in.png")}
    assert run(flow, "--models", ".", "--input", ".")[0] == 0
    assert seen == [(str(tmp_path), str(tmp_path))]
    assert os.environ["VD_MODELS"] == "before" and "VD_INPUT" not in os.environ


# Refusals


def test_linked_prefixes_and_symbolic_links_stay_there_too(run, tmp_path):
    flow = painting() | {"3": node("Words", text="../out")}
    flow["2"]["inputs"]["filename_prefix"] = ["3", 1]
    assert "SaveImage: filename_prefix '../out' leaves" in run(flow)[2]
    (tmp_path / "output").mkdir(exist_ok=True)
    (tmp_path / "output" / "door").symlink_to(tmp_path)
    assert "through a link" in run(painting(), "--set", "SaveImage.filename_prefix=door/art")[2]
    assert not list(tmp_path.rglob("*.png"))


def test_a_node_is_found_by_the_first_part_of_its_title(run):
    flow = painting()
    flow["1"]["_meta"] = {"title": "Brush · Painter"}
    for title in ("Brush", "Brush · Painter"):
        assert run(flow, "--set", f"{title}.text=red")[0] == 0
        assert Paint.calls[-1]["text"] == "red"


@pytest.mark.parametrize(("width", "height"), [(65, 64), (64, 60)])
def test_a_size_that_is_not_divisible_by_8_is_refused(run, width, height):
    flow = {
        "1": node("EmptyLatentImage", "Size", width=width, height=height, batch_size=1),
        "2": node("PreviewAny", source=["1", 0]),
    }
    sentence = f"Size: The sides of a picture must be divisible by 8, got {width}x{height}."
    assert run(flow) == (4, "", f"Size\n{sentence}\n")


# The pack


def test_the_pack_is_loaded_as_comfyui_loads_it(tmp_path):
    (tmp_path / "inner.py").write_text("NODE_CLASS_MAPPINGS = {'X': 1}\n")
    (tmp_path / "__init__.py").write_text("if __package__:\n    from .inner import NODE_CLASS_MAPPINGS\n")
    assert load_pack(tmp_path, "a_fake_pack").NODE_CLASS_MAPPINGS == {"X": 1}


def test_a_plain_script_from_any_folder(tmp_path):
    flow = {
        "1": node("EmptyLatentImage", width=16, height=16, batch_size=1),
        "2": node("PreviewAny", "Show", source=["1", 0]),
    }
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    done = subprocess.run(
        [sys.executable, ROOT / "run_workflow.py", "flow.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("output/Show_00001.txt\n"), done.stderr


@pytest.mark.parametrize(
    "name", ["../x.png", "/etc/passwd", "a/../../x.png", "C:\\x.png", "..\\x.png", "\\\\server\\x.png", "nul"]
)
def test_pictures_of_a_file_stay_in_their_folders(run, refused, tmp_path, name):
    graph = {"1": node("LoadImage", image=name), "2": node("SaveImage", images=["1", 0], filename_prefix="a")}
    assert "leads out of the folders of pictures" in refused(graph)
    Image.new("RGB", (8, 8)).save(elsewhere := tmp_path.parent / "elsewhere.png")
    # who types the command may name any file
    assert run(graph, "--set", f"LoadImage.image={elsewhere}")[0] == 0


# For programs


def test_results_as_json(run):
    flow = painting() | {"3": node("Words", text="a\nb"), "4": node("PreviewAny", "Show", source=["3", 1])}
    status, out, _ = run(flow, "--json")
    first, second = map(json.loads, out.splitlines())
    assert status == 0 and first == {"node": "2", "title": "SaveImage", "file": "output/art_00001_.png"}
    assert second == {"node": "4", "title": "Show", "file": "output/Show_00001.txt", "texts": ["a\nb"]}
    _, out, _ = run(painting(), "--json", "--set", "SaveImage.filename_prefix=b")
    assert json.loads(out) == {**first, "file": "output/b_00001_.png", "set": ["SaveImage.filename_prefix=b"]}
    status, out, err = run(painting(text="fail"), "--json")
    assert json.loads(out) == {"error": err.splitlines()[-1], "status": 4} and status == 4


def test_what_can_be_set_is_listed(run, tmp_path):
    status, out, _ = run(painting(text=["3", 1]) | {"3": node("Words", text="a")}, "--list", "--json")
    entries = {(entry["title"], entry["input"]): entry for entry in map(json.loads, out.splitlines())}
    assert status == 0 and not Paint.calls and not (tmp_path / "output").exists()
    assert entries["Painter", "style"]["choices"] == ["flat", "round"]
    seed = entries["Painter", "seed"]
    assert (seed["type"], seed["value"], seed["min"], seed["max"]) == ("INT", 1, 0, 9)
    assert entries["Painter", "text"]["linked"] and entries["SaveImage", "filename_prefix"]["value"] == "art"
    lines = run(painting(), "--list", "--set", "Painter.seed=7")[1].splitlines()
    assert "Painter.seed=7  INT (0 to 9), node 1" in lines
    assert "Painter.style='flat'  COMBO (flat, round), node 1" in lines


def test_pictures_are_looked_for_in_the_input_folder_first(run, tmp_path):
    (tmp_path / "photos").mkdir()
    for folder, color in ((tmp_path / "photos", 255), (tmp_path, 0)):
        Image.new("RGB", (8, 8), (color, 0, 0)).save(folder / "in.png")
    flow = {
        "1": node("LoadImage", image="in.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="a"),
    }
    assert run(flow, "--input", "photos")[0] == 0
    with Image.open("output/a_00001_.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 0, 0)
    assert "--input none does not exist" in run(flow, "--input", "none")[2]
    refused = run({"1": paint(), "2": node("PreviewImage", images=["1", 0])}, "--input", "photos")
    assert refused == (2, "", "--input: no node of this workflow reads a picture or a context.\n")


def test_a_run_that_takes_too_long_ends_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Paint, "execute", lambda self, **_: time.sleep(30))
    started = time.monotonic()
    status, out, err = run(painting(), "--timeout", "0.3")
    assert (status, out) == (4, "") and time.monotonic() - started < 10
    assert err.splitlines()[-1] == "It was not done within 0.3 seconds, the limit that --timeout sets."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.json"]


def test_a_failed_job_leaves_nothing(run, tmp_path):
    assert run(painting(text="fail"))[0] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["flow.json"]


def test_help_shows_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "--set Prompt.text=" in said and "exit status: 0, 2 for" in said


# Workflow files


# What core and its page do


@pytest.mark.parametrize(("given", "seed"), [("4", 4), (" 4 ", 4), (4.0, 4)])
def test_numbers_given_as_text_are_numbers(run, given, seed):
    assert run(painting(seed=given, level="0.25", text=7))[0] == 0
    assert (Paint.calls[0]["seed"], Paint.calls[0]["level"], Paint.calls[0]["text"]) == (seed, 0.25, "7")


def test_titles_and_choices_cannot_reach_the_terminal(run):
    flow = painting(style="\x1b[2J" * 300)
    flow["1"]["_meta"]["title"] = "\x1b]0;gone\x07" * 50
    status, out, err = run(flow)
    assert status == 2 and "\x1b" not in err + out and "\x07" not in err and len(err) < 1000


def test_contexts_are_taken_from_the_input_folder_first(tmp_path, capsys, monkeypatch):
    """Those of the pack's own Load Context, which is found with the file that its folder holds."""
    monkeypatch.setenv("VD_INPUT", "")  # so that it is forgotten again
    (tmp_path / "people").mkdir()
    np.save(tmp_path / "people" / "predicted.npy", np.eye(5, 40, dtype=np.float32))
    inputs = {"file": "predicted.npy", "kind": "text", "normalise": False}
    flow = {
        "1": {"class_type": "VD_LoadContext", "inputs": inputs},
        "2": node("PreviewAny", source=["1", 0]),
    }
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    command = [str(tmp_path / "flow.json"), "--output", str(tmp_path / "out")]
    assert main([*command, "--input", str(tmp_path / "people")]) == 0
    assert "1." in capsys.readouterr().out
    monkeypatch.delenv("VD_INPUT")
    assert main(command) == 2 and "'predicted.npy' is not one of its choices" in capsys.readouterr().err
