"""What the runner refuses: workflows, changes and command lines, each in one sentence."""

import os

import pytest
from made_up_nodes import node, paint, painting
from PIL import Image

from runner.command import main


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "is not a ComfyUI workflow"),
        ("{}", "is not a ComfyUI workflow"),
        ({"1": {"class_type": "Paint"}}, "is not a ComfyUI workflow"),
        ({"1": node("KSampler", "My sampler")}, "My sampler (node 1) needs ComfyUI itself"),
        ({"1": paint()}, "no output node"),
        (
            painting(image=["5", 0]),
            "Painter (node 1), input image: it is linked to node 5, which does not exist.",
        ),
        (
            painting(image=["2", 0]),
            "Painter (node 1), input image: it is linked to output 0 of SaveImage (node 2), which has 0 "
            "outputs.",
        ),
        (
            painting(image=["3", 0]) | {"3": node("Words", text="")},
            "it takes IMAGE, but Words (node 3) gives STRING there.",
        ),
        (painting(image=["3", -1]) | {"3": paint()}, "linked to output -1"),
        (painting(image=["1", 0]), "The workflow runs in a circle: Painter (node 1) -> Painter (node 1)."),
        (painting(image=["3", 0]) | {"3": paint("Other", image=["1", 0])}, "runs in a circle"),
        (painting(image=1), "Painter (node 1), input image: it takes a link of type IMAGE, not the value 1."),
        (painting(seed=1.5), "Painter (node 1), input seed: it takes INT, not 1.5."),
        (painting(seed=True), "input seed: it takes INT, not True."),
        (painting(seed="1.5"), "input seed: it takes INT, not '1.5'."),
        (painting(seed="much"), "input seed: it takes INT, not 'much'."),
        (painting(seed=10), "Painter (node 1), input seed: 10 is outside 0 to 9."),
        (painting(level=-0.1), "input level: -0.1 is outside 0.0 to 1.0."),
        (painting(level=float("nan")), "input level: it takes FLOAT, not nan."),
        (painting(level=10**400), "input level: it takes FLOAT"),
        (
            painting(style="square"),
            "Painter (node 1), input style: 'square' is not one of its choices (flat, round).",
        ),
        (painting(style=["x", 0]), "linked to node x"),
        (painting(wide=1), "input wide: it takes BOOLEAN, not 1."),
        (painting(text=None), "input text: it takes STRING, not None."),
        (
            {"1": node("Paint", text="x"), "2": node("PreviewImage", images=["1", 0])},
            "Paint (node 1), input seed: it is required",
        ),
        (
            {"1": node("LoadImage", image="no.png"), "2": node("PreviewImage", images=["1", 0])},
            "there is no picture no.png",
        ),
        (
            {"1": node("LoadImage", image="a\nb"), "2": node("PreviewImage", images=["1", 0])},
            "there is no picture a?b in . or",
        ),
        (
            {"1": node("LoadImage", image=""), "2": node("PreviewImage", images=["1", 0])},
            "it takes the name of a picture",
        ),
    ],
)
def test_refusals(refused, data, sentence):
    assert sentence in refused(data)


@pytest.mark.parametrize("prefix", ["../out", "a/../../b", "/tmp/x", "C:\\x", "a\\..\\b", "\\\\server\\x"])
def test_pictures_stay_in_the_output_folder(refused, prefix):
    flow = painting()
    flow["2"]["inputs"]["filename_prefix"] = prefix
    assert "leaves the output folder" in refused(flow)


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("Painter", "must have the form NODE.INPUT=VALUE"),
        ("Painter=3", "must have the form NODE.INPUT=VALUE"),
        (
            "Nobody.text=3",
            "no node has the id or title Nobody; there are Painter (node 1), SaveImage (node 2).",
        ),
        ("Painter.colour=3", "has no value colour, only text, seed, level, style, wide, noise."),
        ("Painter.image=3", "has no value image"),
        ("Painter.seed=1.5", "1.5 is not a whole number"),
        ("Painter.level=much", "much is not a number"),
        ("Painter.level=nan", "it takes FLOAT, not nan"),
        ("Painter.wide=1", "must be true or false"),
        ("Painter.style=square", "'square' is not one of its choices"),
        ("Painter.seed=10", "10 is outside 0 to 9"),
    ],
)
def test_refused_changes(refused, assignment, sentence):
    assert sentence in refused(painting(), "--set", assignment)


def test_a_title_that_two_nodes_have_is_refused(refused):
    assert "nodes 1, 3 are all called Painter, so use an id" in refused(
        painting() | {"3": paint()}, "--set", "Painter.seed=1"
    )


def test_bad_folders_and_files_are_refused(refused, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "--output file is a file" in refused(painting(), "--output", "file")
    assert "--models none does not exist" in refused(painting(), "--models", "none")
    assert main(["missing.json"]) == 2
    assert capsys.readouterr().err == "There is no workflow file missing.json.\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seed", "x"], "argument --seed: invalid int value: 'x'; --help says what there is."),
        (["--sets", "a.b=1", "--colour"], "unrecognized arguments: --sets"),
        (["--set"], "argument --set: expected one argument"),
    ],
)
def test_mistakes_on_the_command_line_are_refused_alike(refused, options, sentence):
    assert sentence in refused(painting(), *options)


def test_a_command_line_without_a_workflow_is_refused(capsys):
    assert main([]) == 2
    assert (
        capsys.readouterr().err
        == "the following arguments are required: WORKFLOW; --help says what there is.\n"
    )


@pytest.mark.parametrize("seconds", ["-1", "nan", "soon"])
def test_times_that_are_none_are_refused(refused, seconds):
    assert "--timeout" in refused(painting(), "--timeout", seconds)


def test_a_picture_without_a_workflow_is_refused(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert main([str(tmp_path / "plain.png")]) == 2
    assert "plain.png carries no workflow, as pictures do that ComfyUI" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told_where_it_is_looked_for(refused, monkeypatch):
    monkeypatch.setenv("VD_MODELS", "/some/models")
    said = refused(painting(style="vd.safetensors"))
    assert (
        "'vd.safetensors' is not one of its choices (flat, round); files are looked for in /some/models"
        in said
    )


def test_what_is_too_large_or_never_ends_is_no_workflow(tmp_path, capsys):
    large, pipe = tmp_path / "large.json", tmp_path / "pipe.json"
    large.touch()
    os.truncate(large, 100 << 30)
    os.mkfifo(pipe)
    for path, sentence in (
        (large, "large.json has more than 16 MB, which no workflow has."),
        (pipe, f"There is no workflow file {pipe}."),
        ("/dev/zero", "There is no workflow file /dev/zero."),
    ):
        assert main([str(path)]) == 2
        assert capsys.readouterr().err.strip().endswith(sentence)
