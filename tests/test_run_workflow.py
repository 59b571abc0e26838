"""The workflow runner, with made-up node classes."""

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import run_workflow

ROOT = Path(__file__).resolve().parents[1]

# The three modules alone, without the pack around them.
HOST = types.ModuleType("host_under_test")
HOST.__path__ = [str(ROOT / "nodes" / "host")]
sys.modules["host_under_test"] = HOST
graph, runner, stand_ins = (importlib.import_module(f"host_under_test.{name}") for name in ("graph", "runner", "stand_ins"))


class Paint:
    """A picture of one brightness; counts its calls."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "execute"
    calls = []

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 9, "control_after_generate": True}),
                "level": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
                "style": (["flat", "round"],),
                "wide": ("BOOLEAN", {"default": False}),
            },
            "optional": {"image": ("IMAGE",), "noise": (["a", 2], {})},
        }

    def execute(self, text, seed, level, style, wide, image=None, noise=None):
        Paint.calls.append({"text": text, "seed": seed, "level": level, "style": style, "wide": wide, "noise": noise})
        if text == "fail":
            raise ValueError("The colour\nis unknown.")
        if text == "stop":
            raise KeyboardInterrupt
        if text == "bug":
            raise KeyError("bug")
        return (torch.full((1, 8, 16 if wide else 8, 3), level),)


class Words:
    """Three words as a list, and joined."""

    RETURN_TYPES = ("STRING", "STRING")
    OUTPUT_IS_LIST = (True, False)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True})}}

    def execute(self, text):
        return text.split(), text


class Upper:
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"word": ("STRING", {"forceInput": True}), "mark": ("STRING", {"default": "!"})}}

    def execute(self, word, mark):
        return (word.upper() + mark,)


class Count:
    RETURN_TYPES = ("INT",)
    INPUT_IS_LIST = True
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"words": ("STRING", {"forceInput": True})}, "hidden": {"me": "UNIQUE_ID"}}

    def execute(self, words, me):
        assert me == ["9"]
        return (len(words),)


class Vae:
    RETURN_TYPES = ("VAE",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def execute(self):
        return (self,)

    def encode(self, images):
        assert images.shape[-1] == 3
        return images.permute(0, 3, 1, 2)[..., ::8, ::8]

    def decode(self, latent):
        return latent[:, :3].permute(0, 2, 3, 1).clamp(0, 1)


CLASSES = {"Paint": Paint, "Words": Words, "Upper": Upper, "Count": Count, "Vae": Vae}


def node(kind, title=None, **inputs):
    return {"class_type": kind, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def paint(title="Painter", **inputs):
    return node("Paint", title, **{"text": "x", "seed": 1, "level": 0.5, "style": "flat", "wide": False, **inputs})


def painting(**inputs):
    return {"1": paint(**inputs), "2": node("SaveImage", images=["1", 0], filename_prefix="art")}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a graph through `main` with the made-up classes -> (exit status, stdout, stderr)."""
    pack = types.SimpleNamespace(NODE_CLASS_MAPPINGS=CLASSES)
    monkeypatch.setattr(run_workflow, "load_pack", lambda: pack)
    monkeypatch.setitem(sys.modules, f"{run_workflow.PACKAGE}.nodes.host.runner", runner)
    monkeypatch.setitem(sys.modules, f"{run_workflow.PACKAGE}.nodes.host", HOST)
    monkeypatch.chdir(tmp_path)
    Paint.calls.clear()

    def go(data, *options):
        file = tmp_path / "flow.json"
        file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        status = run_workflow.main([str(file), *options])
        out, err = capsys.readouterr()
        return status, out, err

    return go


@pytest.fixture
def refused(run):
    """Runs a graph that must be refused before any node runs -> the one sentence."""

    def go(data, *options):
        status, out, err = run(data, *options)
        assert (status, out, Paint.calls) == (1, "", [])
        assert err.count("\n") == 1 and "Traceback" not in err
        return err.strip()

    return go


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


def test_an_empty_list_means_no_call(run):
    flow = {"1": node("Words", text=""), "2": node("Upper", word=["1", 0], mark="?"), "3": node("PreviewAny", source=["2", 0])}
    assert run(flow)[:2] == (0, "")


def test_nodes_run_without_gradients(run, monkeypatch):
    monkeypatch.setattr(Paint, "execute", lambda self, **_: (torch.ones(1, 8, 8, 3) * torch.is_inference_mode_enabled(),))
    assert run(painting())[0] == 0
    assert np.asarray(Image.open("output/art_00001_.png")).min() == 255


def test_changes_from_the_command_line(run, tmp_path):
    options = ["Painter.text=a=b.c", "1.level=1", "Painter.style=round", "Painter.wide=True", "SaveImage.filename_prefix=sub/new"]
    status, out, _ = run(painting(), "--seed", "7", "--output", "there", *(part for text in options for part in ("--set", text)))
    assert (status, out) == (0, "there/sub/new_00001_.png\n")
    assert Paint.calls == [{"text": "a=b.c", "seed": 7, "level": 1.0, "style": "round", "wide": True, "noise": None}]


def test_set_wins_over_seed_and_replaces_links(run):
    flow = painting(text=["3", 1]) | {"3": node("Words", text="a")}
    assert run(flow, "--seed", "7", "--set", "1.seed=3", "--set", "1.text=own")[0] == 0
    assert (Paint.calls[0]["seed"], Paint.calls[0]["text"]) == (3, "own")


def test_choices_that_are_not_text_keep_their_type(run):
    assert run(painting(noise="a"), "--set", "1.noise=2")[0] == 0
    assert Paint.calls[0]["noise"] == 2


def test_a_seed_that_nothing_takes_is_mentioned(run):
    status, _, err = run({"1": node("Words", text="a"), "2": node("PreviewAny", source=["1", 1])}, "--seed", "1")
    assert status == 0 and "no node of this workflow has a seed" in err


def test_a_node_that_refuses_gives_its_title_and_sentence(run):
    assert run(painting(text="fail")) == (1, "", "Painter\nPainter: The colour is unknown.\n")


def test_a_bug_is_not_hidden(run):
    with pytest.raises(KeyError):
        run(painting(text="bug"))


def test_interruption_is_quiet(run):
    assert run(painting(text="stop")) == (130, "", "Painter\n")


def test_models_folder_reaches_the_pack(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VD_MODELS", "before")
    run(painting(), "--models", ".")
    assert run_workflow.os.environ["VD_MODELS"] == str(tmp_path)


# Refusals


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
        (painting(image=["5", 0]), "Painter (node 1), input image: it is linked to node 5, which does not exist."),
        (painting(image=["2", 0]), "Painter (node 1), input image: it is linked to output 0 of SaveImage (node 2), which has 0 outputs."),
        (painting(image=["3", 0]) | {"3": node("Words", text="")}, "it takes IMAGE, but Words (node 3) gives STRING there."),
        (painting(image=["3", -1]) | {"3": paint()}, "linked to output -1"),
        (painting(image=["1", 0]), "The workflow runs in a circle: Painter (node 1) -> Painter (node 1)."),
        (painting(image=["3", 0]) | {"3": paint("Other", image=["1", 0])}, "runs in a circle"),
        (painting(image=1), "Painter (node 1), input image: it takes a link of type IMAGE, not the value 1."),
        (painting(seed=1.5), "Painter (node 1), input seed: it takes INT, not 1.5."),
        (painting(seed=True), "input seed: it takes INT, not True."),
        (painting(seed="1"), "input seed: it takes INT, not '1'."),
        (painting(seed=10), "Painter (node 1), input seed: 10 is outside 0 to 9."),
        (painting(level=-0.1), "input level: -0.1 is outside 0.0 to 1.0."),
        (painting(level=float("nan")), "input level: it takes FLOAT, not nan."),
        (painting(level=10**400), "input level: it takes FLOAT"),
        (painting(style="square"), "Painter (node 1), input style: 'square' is not one of its choices (flat, round)."),
        (painting(style=["x", 0]), "linked to node x"),
        (painting(wide=1), "input wide: it takes BOOLEAN, not 1."),
        (painting(text=None), "input text: it takes STRING, not None."),
        ({"1": node("Paint", text="x"), "2": node("PreviewImage", images=["1", 0])}, "Paint (node 1), input seed: it is required"),
        ({"1": node("LoadImage", image="no.png"), "2": node("PreviewImage", images=["1", 0])}, "there is no picture no.png"),
        ({"1": node("LoadImage", image=""), "2": node("PreviewImage", images=["1", 0])}, "it takes the name of a picture"),
    ],
)
def test_refusals(refused, data, sentence):
    assert sentence in refused(data)


@pytest.mark.parametrize("prefix", ["../out", "a/../../b", "/tmp/x", "C:\\x", "a\\..\\b", "a\0b", "\\\\server\\x"])
def test_pictures_stay_in_the_output_folder(refused, prefix):
    flow = painting()
    flow["2"]["inputs"]["filename_prefix"] = prefix
    assert "leaves the output folder" in refused(flow)


def test_linked_prefixes_and_symbolic_links_stay_there_too(run, tmp_path):
    flow = painting() | {"3": node("Words", text="../out")}
    flow["2"]["inputs"]["filename_prefix"] = ["3", 1]
    assert "SaveImage: filename_prefix '../out' leaves" in run(flow)[2]
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "door").symlink_to(tmp_path)
    assert "through a link" in run(painting(), "--set", "SaveImage.filename_prefix=door/art")[2]
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("Painter", "must have the form NODE.INPUT=VALUE"),
        ("Painter=3", "must have the form NODE.INPUT=VALUE"),
        ("Nobody.text=3", "no node has the id or title Nobody; there are Painter (node 1), SaveImage (node 2)."),
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
    assert "nodes 1, 3 are all called Painter, so use an id" in refused(painting() | {"3": paint()}, "--set", "Painter.seed=1")


def test_bad_folders_and_files_are_refused(refused, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "--output file is a file" in refused(painting(), "--output", "file")
    assert "--models none does not exist" in refused(painting(), "--models", "none")
    assert run_workflow.main(["missing.json"]) == 1
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
    assert run_workflow.main([]) == 1
    assert capsys.readouterr().err == "the following arguments are required: WORKFLOW.json; --help says what there is.\n"


@pytest.mark.parametrize(("width", "height"), [(65, 64), (64, 60)])
def test_a_size_that_is_not_divisible_by_8_is_refused(run, width, height):
    flow = {"1": node("EmptyLatentImage", "Size", width=width, height=height, batch_size=1), "2": node("PreviewAny", source=["1", 0])}
    sentence = f"Size: The sides of a picture must be divisible by 8, got {width}x{height}."
    assert run(flow) == (1, "", f"Size\n{sentence}\n")


# The canvas format


def canvas(**changes):
    """Words -> Painter (text linked) -> SaveImage, and a note, as ComfyUI's page saves them."""
    words = {"id": 5, "type": "Words", "mode": 0, "inputs": [], "widgets_values": ["sea"]}
    painter = {
        "id": 6, "type": "Paint", "title": "Sea", "mode": 0, "widgets_values": ["", 4, "randomize", 0.25, "round", True],
        "inputs": [{"name": "image", "type": "IMAGE", "link": None}, {"name": "text", "link": 1, "widget": {"name": "text"}}],
    }  # fmt: skip
    save = {"id": 7, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 2}], "widgets_values": ["sea"]}
    note = {"id": 8, "type": "Note", "widgets_values": ["A note."]}
    return {"nodes": [words, painter | changes, save, note], "links": [[1, 5, 1, 6, 1, "STRING"], [2, 6, 0, 7, 0, "IMAGE"]]}


def test_canvas_files_are_converted(run):
    assert run(canvas())[:2] == (0, "output/sea_00001_.png\n")
    assert Paint.calls == [{"text": "sea", "seed": 4, "level": 0.25, "style": "round", "wide": True, "noise": None}]
    with Image.open("output/sea_00001_.png") as picture:
        assert json.loads(picture.text["workflow"]) == canvas()
        assert json.loads(picture.text["prompt"])["6"]["inputs"]["text"] == ["5", 1]


def test_links_as_objects_and_values_by_name(run):
    flow = canvas(widgets_values={"text": "", "seed": 2, "level": 0, "style": "flat", "wide": False})
    flow["links"][0] = {"id": 1, "origin_id": 5, "origin_slot": 1, "target_id": 6, "target_slot": 1, "type": "STRING"}
    assert run(flow)[0] == 0
    assert (Paint.calls[0]["text"], Paint.calls[0]["seed"]) == ("sea", 2)


def test_the_upload_widget_of_load_image_is_skipped(run, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    load = {"id": 1, "type": "LoadImage", "widgets_values": ["in.png", "image"]}
    show = {"id": 2, "type": "PreviewImage", "inputs": [{"name": "images", "link": 3}], "widgets_values": []}
    assert run({"nodes": [load, show], "links": [[3, 1, 0, 2, 0, "IMAGE"]]})[:2] == (0, "output/preview_00001_.png\n")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": 2}, "Sea is muted, which only ComfyUI's canvas resolves: use workflows/api/flow.json instead."),
        ({"mode": 4}, "Sea is bypassed"),
        ({"type": "Reroute"}, "Sea exists only on ComfyUI's canvas: use workflows/api/flow.json instead."),
        ({"type": "KSampler"}, "Sea needs ComfyUI itself"),
        ({"widgets_values": ["", 4, 0.25, "round", True, None, 1, 2]}, "Sea has 8 widget values"),
        ({"widgets_values": ["", 4]}, "Sea (node 6), input level: it is required, but missing."),
        ({"inputs": [{"name": "text", "link": 77}]}, "The canvas file is damaged (KeyError: 77): use workflows/api/flow.json instead."),
        ({"id": [1]}, "linked to node 6, which does not exist"),
    ],
)
def test_canvas_files_that_do_not_say_enough_are_refused(refused, changes, sentence):
    assert sentence in refused(canvas(**changes))


def test_subgraphs_are_refused(refused):
    flow = canvas(type="0-1") | {"definitions": {"subgraphs": [{"id": "0-1"}]}}
    assert "Sea exists only on ComfyUI's canvas" in refused(flow)


# The stand-ins


def loaded(path):
    return stand_ins.LoadImage().execute(str(path))


@pytest.mark.parametrize(
    ("mode", "color", "rgb", "masked"),
    [
        ("RGB", (255, 51, 0), (1, 0.2, 0), 0),
        ("RGBA", (255, 51, 0, 204), (1, 0.2, 0), 0.2),
        ("RGBA", (255, 51, 0, 0), (1, 0.2, 0), 1),
        ("L", 51, (0.2, 0.2, 0.2), 0),
        ("LA", (51, 204), (0.2, 0.2, 0.2), 0.2),
        ("1", 1, (1, 1, 1), 0),
        ("I;16", 51 * 257, (0.2, 0.2, 0.2), 0),
    ],
)
def test_load_image(tmp_path, mode, color, rgb, masked):
    Image.new(mode, (6, 4), color).save(tmp_path / "in.png")
    image, mask = loaded(tmp_path / "in.png")
    assert image.shape == (1, 4, 6, 3) and mask.shape == (1, 4, 6) and image.dtype == mask.dtype == torch.float32
    torch.testing.assert_close(image[0, 0, 0], torch.tensor(rgb, dtype=torch.float32))
    torch.testing.assert_close(mask, torch.full_like(mask, masked))


def test_load_image_of_a_palette_with_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "in.png", transparency=1)
    image, mask = loaded(tmp_path / "in.png")
    assert image[0, 0].tolist() == [[1, 0, 0], [0, 0, 1]] and mask.tolist() == [[[0, 1]]]


def test_load_image_turns_as_the_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "in.jpg", exif=exif)
    assert loaded(tmp_path / "in.jpg")[0].shape == (1, 8, 4, 3)


def test_load_image_refuses_other_files(run, tmp_path):
    (tmp_path / "in.png").write_text("no picture")
    flow = {"1": node("LoadImage", image="in.png"), "2": node("PreviewImage", images=["1", 0])}
    assert "LoadImage: " in run(flow)[2] and "cannot be read as a picture" in run(flow)[2]


def test_pictures_are_found_beside_the_workflow(run, tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    flow = {"1": node("LoadImage", image="in.png [input]"), "2": node("PreviewImage", images=["1", 0])}
    assert run(flow)[0] == 0
    with Image.open("output/preview_00001_.png") as picture:
        assert json.loads(picture.text["prompt"]) == flow, "the file must not tell where the picture lay"


def test_saving_what_was_loaded_changes_nothing(run, tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    assert run({"1": node("LoadImage", image="in.png"), "2": node("SaveImage", images=["1", 0], filename_prefix="x")})[0] == 0
    assert (np.asarray(Image.open("output/x_00001_.png")) == pixels).all()


def test_latents_go_through_the_vae(run):
    flow = {
        "1": node("Vae"),
        "2": paint(level=1.0),
        "3": node("VAEEncode", pixels=["2", 0], vae=["1", 0]),
        "4": node("VAEDecode", samples=["3", 0], vae=["1", 0]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="x"),
        "6": node("EmptyLatentImage", width=64, height=32, batch_size=2),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 0]),
        "8": node("SaveImage", images=["7", 0], filename_prefix="empty"),
    }
    assert run(flow)[0] == 0
    assert np.asarray(Image.open("output/x_00001_.png")).min() == 255
    assert np.asarray(Image.open("output/empty_00002_.png")).shape == (4, 8, 3)


def test_preview_any_shows_everything():
    shown = [stand_ins.PreviewAny().execute(value)["result"][0] for value in ("ä", 1, True, None, [1, "ä"], {"a": torch.zeros(1)})]
    assert shown == ["ä", "1", "True", "None", '[1, "ä"]', "{'a': tensor([0.])}"]


# The pack


def test_the_pack_is_loaded_as_comfyui_loads_it(tmp_path):
    (tmp_path / "inner.py").write_text("NODE_CLASS_MAPPINGS = {'X': 1}\n")
    (tmp_path / "__init__.py").write_text("if __package__:\n    from .inner import NODE_CLASS_MAPPINGS\n")
    assert run_workflow.load_pack(tmp_path, "a_fake_pack").NODE_CLASS_MAPPINGS == {"X": 1}


def test_a_plain_script_from_any_folder(tmp_path):
    flow = {"1": node("EmptyLatentImage", width=16, height=16, batch_size=1), "2": node("PreviewAny", "Show", source=["1", 0])}
    (tmp_path / "flow.json").write_text(json.dumps(flow))
    done = subprocess.run([sys.executable, ROOT / "run_workflow.py", "flow.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("output/Show_00001.txt\n"), done.stderr
