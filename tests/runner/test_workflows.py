"""Every workflow file: canvas and API twins agree, and each runs through run_workflow.py on a tiny model."""

import io
import json
import re
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from runner import graph
from runner.command import main
from runner.core_nodes import CORE_NODES
from seecoder.checkpoints import collect_released_state
from seecoder.config import SeeCoderConfig
from seecoder.model import SeeCoder
from tools.lay_out_workflows import name_twin
from vd_core.checkpoints.contexts import save_context
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import save_lora
from vd_core.context import Context
from vd_core.training.lora import Lora, select

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
CANVASES = {name_twin(path).stem: path for path in FOLDER.rglob("*.json") if path.parent.name != "api"}
NAMES = sorted(CANVASES)
# The others need ComfyUI: tests/live runs them. Those of the real model need its files.
OWN = [name for name in NAMES if not name.startswith(("ksampler-", "official-ddim", "real-seecoder"))]
EMBEDDED = [name for name in OWN if not name.startswith("real-")]


# how many it saves; the others four
PICTURES = {"best-of-n": 2, "focus-and-blend": 2, "interpolate-pictures": 1, "inpaint": 1}


def path_of(part, name):
    """Return the path of a workflow file: `part` is "." for the canvas format, "api" for its twin."""
    return CANVASES[name] if part == "." else FOLDER / "api" / f"{name}.json"


def read(part, name):
    """Return a workflow file."""
    return json.loads(path_of(part, name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models(models, config, tmp_path_factory):
    """The tiny model, a SeeCoder whose tokens have its width, and such contexts as are predicted, under the
    names of those for the embedded model."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(models / "tiny.safetensors", folder)
    queries = replace(SeeCoderConfig.tiny().queries, width=config.diffuser.context["text"])
    seecoder = SeeCoder(replace(SeeCoderConfig.tiny(), queries=queries))
    with torch.no_grad():  # as tokens of CLIP are scaled for Versatile Diffusion
        seecoder.qtransformer.transformer_feedforward_layers[-1].norm.weight.mul_(0.1)
    torch.save(collect_released_state(seecoder), folder / "seecoder.pth")
    width, positions = config.clip.projection_dim, config.clip.text.positions
    save_context(
        folder / "brain-pictures.safetensors",
        Context("image", F.normalize(torch.randn(4, 17, width), dim=-1)),
    )
    save_context(
        folder / "brain-texts.safetensors",
        Context("text", F.normalize(torch.randn(4, positions, width), dim=-1)),
    )
    diffuser = load(folder / "tiny.safetensors").diffuser
    lora = Lora(diffuser, select(diffuser, ["context.text"]), 2, 2.0)
    save_lora(folder / "tiny_lora.safetensors", lora.changes(), config.diffuser, ["image"])
    return folder


# Loaders whose files are published.
WITH_FILES = (
    "VD_LoadImageModel",
    "VD_LoadTextModel",
    "VD_LoadClip",
    "VD_LoadClipVision",
    "SeeCoder_Load",
    "PFD_LoadDiffuser",
    "VAELoader",
)
SMALL = {
    "SeeCoder_Load": "model=seecoder.pth",
    "VD_Sampler": "steps=2",
    "VD_Invert": "steps=2",
    "VD_Load": "model=tiny.safetensors",
    "VD_LoadLora": "lora=tiny_lora.safetensors",
} | {f"VD_Load{part}": "model=tiny.safetensors" for part in ("ImageModel", "TextModel", "Clip", "ClipVision")}


def run(name, models, out, *more, part="api"):
    """Run one workflow with the tiny model and few steps; the files it wrote, by name."""
    path = path_of(part, name)
    classes = {node_id: node["class_type"] for node_id, node in read("api", name).items()}
    sets = [
        word
        for node_id, cls in classes.items()
        if cls in SMALL
        for word in ("--set", f"{node_id}.{SMALL[cls]}")
    ]
    assert main([str(path), "--models", str(models), "--output", str(out), *sets, *more]) == 0
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_all_basic_workflows_are_there():
    basic = {
        "text-to-image",
        "image-variation",
        "image-to-text",
        "text-variation",
        "dual-context",
        "quick-start",
    }
    assert basic <= set(OWN) and set(NAMES) == {path.stem for path in (FOLDER / "api").glob("*.json")}


@pytest.mark.parametrize("name", OWN)
def test_canvas_file_says_the_same_as_its_api_twin(name, pack):
    catalogue = graph.describe_classes({**CORE_NODES, **pack.NODE_CLASS_MAPPINGS})
    # titles too: --set names nodes by them
    assert graph.convert_canvas(read(".", name), catalogue, "its twin") == read("api", name)


@pytest.mark.parametrize("name", NAMES)
def test_canvas_file_fits_together(name):
    """What our converter does not look at, but ComfyUI's page does: both ends of each link, and the numbers
    given out so far."""
    canvas = read(".", name)
    nodes = {node["id"]: node for node in canvas["nodes"]}
    assert canvas["version"] == 0.4 and canvas["last_node_id"] == max(nodes)
    assert canvas["last_link_id"] == max(row[0] for row in canvas["links"])
    for link, source, slot, target, input_slot, kind in canvas["links"]:
        start, end = nodes[source]["outputs"][slot], nodes[target]["inputs"][input_slot]
        assert (
            link in start["links"]
            and link == end["link"]
            and kind == start["type"]
            and end["type"] in (kind, "*")
        )
    ends = [entry["link"] for node in nodes.values() for entry in node["inputs"] if entry["link"] is not None]
    starts = [link for node in nodes.values() for entry in node["outputs"] for link in entry["links"] or ()]
    assert sorted(ends) == sorted(starts) == sorted(row[0] for row in canvas["links"])
    for node in nodes.values():
        assert node["properties"].get("Node name for S&R", "MarkdownNote") == node["type"]
        assert "randomize" not in node.get("widgets_values", ())


@pytest.mark.parametrize("name", NAMES)
def test_canvas_file_is_one_that_the_page_takes_without_complaint(name):
    """It wants a UUID, explains itself to newcomers, and its loaders say where missing models are
    published."""
    canvas = read(".", name)
    uuid.UUID(canvas["id"])
    assert sum(node["type"] == "MarkdownNote" for node in canvas["nodes"]) == 1
    for node in canvas["nodes"]:
        if node["type"] in WITH_FILES or node["type"] == "VD_Load" and name.startswith("real-"):
            for model in node["properties"]["models"]:
                assert model.keys() == {"name", "url", "directory"} and model["url"].startswith(
                    "https://huggingface.co/"
                )


@pytest.mark.parametrize("name", NAMES)
def test_nodes_say_which_pack_they_are_of(name):
    """ComfyUI's page then offers to install what is missing, and knows what the file was made with."""
    for node in read(".", name)["nodes"]:
        if node["type"] != "MarkdownNote":
            own = node["type"].startswith(("VD_", "SeeCoder_", "PFD_"))
            assert node["properties"]["cnr_id"] == ("versatile-diffusion" if own else "comfy-core")
            assert re.fullmatch(r"\d+\.\d+\.\d+", node["properties"]["ver"])


@pytest.mark.parametrize("name", NAMES)
def test_a_vae_is_one_that_the_page_can_download(name):
    """Its Download is there for .safetensors alone."""
    for node in read(".", name)["nodes"]:
        for model in node.get("properties", {}).get("models", ()):
            assert model["directory"] != "vae" or model["name"].endswith(".safetensors")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OWN])
def test_what_needs_comfyui_says_so(name, tmp_path, capfd):
    assert main([str(FOLDER / "api" / f"{name}.json"), "--output", str(tmp_path)]) == 2
    assert "needs ComfyUI itself" in capfd.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_no_node_covers_another(name):
    boxes = [(*node["pos"], *node["size"]) for node in read(".", name)["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        for other_x, other_y, other_w, other_h in boxes[:i]:
            apart = x >= other_x + other_w or other_x >= x + w or y >= other_y + other_h or other_y >= y + h
            assert apart, (x, y, other_x, other_y)


def test_canvas_file_draws_and_says_the_same_as_its_api_twin(models, tmp_path):
    (drawn, said), (twin_drawn, twin_said) = (
        results(run("quick-start", models, tmp_path / part, part=part)) for part in (".", "api")
    )
    assert drawn == twin_drawn and said == twin_said and drawn and said


def results(files):
    """Pixels and texts of written files; the PNG files themselves also hold the workflow."""
    pixels = {
        name: Image.open(io.BytesIO(content)).tobytes()
        for name, content in files.items()
        if name.endswith(".png")
    }
    return pixels, {name: content for name, content in files.items() if name.endswith(".txt")}


@pytest.mark.parametrize("name", EMBEDDED)
def test_same_seed_gives_the_same_bytes(name, models, tmp_path):
    first = run(name, models, tmp_path / "a", "--seed", "7")
    assert first == run(name, models, tmp_path / "b", "--seed", "7")
    assert first and first != run(name, models, tmp_path / "c", "--seed", "8")
    texts = [name for name in first if name.endswith(".txt")]
    pictures = [name for name in first if name.endswith(".png")]
    classes = {node["class_type"] for node in read("api", name).values()}
    assert len(pictures) == (PICTURES.get(name, 4) if "SaveImage" in classes else 0) and bool(texts) == (
        "PreviewAny" in classes
    )


def test_what_the_sampler_refuses_stands_on_a_line_of_its_own(models, tmp_path, capfd):
    """Not behind a progress bar. 72 is divisible by 8, but what is left of it in the latent is not divisible
    by 2."""
    path = str(FOLDER / "api" / "text-to-image.json")
    sets = ["--set", "Load Versatile Diffusion.model=tiny.safetensors", "--set", "Size.width=72"]
    options = [*sets, "--models", str(models), "--output", str(tmp_path)]
    assert main([path, *options]) == 4
    assert capfd.readouterr().err.split("\n")[-2:] == [
        "Sampler · Multi-Flow Sampler: The sides of a picture must be divisible by 16 pixels, got 72x64 (a "
        "latent of 9x8).",
        "",
    ]
    assert not list(tmp_path.iterdir())


def test_sampling_and_writing_show_their_progress(models, tmp_path, capfd):
    run("image-to-text", models, tmp_path)
    shown = capfd.readouterr().err
    assert "\rsampling: " in shown and "/2 [" in shown and "\rwriting: " in shown


def test_a_picture_of_ones_own_takes_the_place_of_an_example(models, tmp_path, capsys):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "own.png")
    again = (run("image-variation", models, tmp_path / out, *own) for out, own in (
        ("example", ()), ("own", ("--set", "Picture.image=own.png", "--input", str(tmp_path))),
    ))  # fmt: skip
    examples, owns = again
    assert examples.keys() == owns.keys() and examples != owns
    assert main([str(path_of("api", "image-variation")), "--input", str(tmp_path)]) == 2
    assert "--set Picture.image=FILE puts a picture in place of the example" in capsys.readouterr().err
    assert main([str(path_of("api", "image-variation")), "--list"]) == 0
    assert "Picture · Example Picture.image=None  a picture of yours in its place" in capsys.readouterr().out
