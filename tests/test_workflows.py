"""Every workflow file: canvas and API twins agree, and each runs through run_workflow.py on a tiny model."""

import importlib
import json
from pathlib import Path

import pytest

import run_workflow
from vd_core.checkpoints.write import save_model

FOLDER = Path(__file__).resolve().parents[1] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def models(tmp_path_factory, model, vocabularies):
    """A models folder with the tiny model."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "tiny.safetensors", model, vocabularies)
    return folder


def run(name, models, out, *more):
    """Run one workflow with the tiny model and few steps; the files it wrote, by name."""
    path = FOLDER / "api" / f"{name}.json"
    sets = ["--set", "Model.model=tiny.safetensors"]
    for node_id, node in json.loads(path.read_text(encoding="utf-8")).items():
        if node["class_type"] == "VD_Sampler":
            sets += ["--set", f"{node_id}.steps=2"]
    assert run_workflow.main([str(path), "--models", str(models), "--output", str(out), *sets, *more]) == 0
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_all_basic_workflows_are_there():
    basic = {"text-to-image", "image-variation", "image-to-text", "text-variation", "dual-context", "quick-start"}
    assert basic <= set(NAMES) == {path.stem for path in (FOLDER / "api").glob("*.json")}


@pytest.mark.parametrize("name", NAMES)
def test_canvas_file_says_the_same_as_its_api_twin(name):
    pack = run_workflow.load_pack(name="versatile_diffusion_twins")
    graph = importlib.import_module("versatile_diffusion_twins.nodes.host.graph")
    stand_ins = importlib.import_module("versatile_diffusion_twins.nodes.host.stand_ins")
    canvas, twin = (json.loads((FOLDER / part / f"{name}.json").read_text(encoding="utf-8")) for part in (".", "api"))
    converted = graph.from_canvas(canvas, {**stand_ins.STAND_INS, **pack.NODE_CLASS_MAPPINGS}, "its twin")
    assert converted.keys() == twin.keys()
    for key, node in twin.items():
        assert converted[key]["class_type"] == node["class_type"]
        assert converted[key]["inputs"] == node["inputs"]


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_bytes(name, models, tmp_path):
    first = run(name, models, tmp_path / "a", "--seed", "7")
    assert first == run(name, models, tmp_path / "b", "--seed", "7")
    assert first and first != run(name, models, tmp_path / "c", "--seed", "8")
    texts = [name for name in first if name.endswith(".txt")]
    pictures = [name for name in first if name.endswith(".png")]
    assert len(pictures) == (0 if name in ("image-to-text", "text-variation") else 4)
    assert bool(texts) == (name in ("image-to-text", "text-variation", "quick-start"))
