"""Every workflow file on the real ComfyUI: queued through the API, and loaded, queued and looked at in the
real page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from assets import write_assets
from real_server import started

from runner.pack import ROOT
from tools.lay_out_workflows import name_twin

pytestmark = pytest.mark.comfyui

FOLDER = ROOT / "workflows"
NEEDS_FILES = re.compile("real-|pfd-|controlnet")
CANVASES = {name_twin(path).stem: path for path in FOLDER.rglob("*.json") if path.parent.name != "api"}
AT_ONCE = sorted(name for name in CANVASES if not NEEDS_FILES.search(name))
NEEDING_FILES = sorted(set(CANVASES) - set(AT_ONCE))
# A whole Stable Diffusion 1 has no small stand-in.
WITH_STAND_INS = [name for name in NEEDING_FILES if not re.search("pfd-|seecoder", name)]
EMBEDDED = ROOT / "vd_core" / "embedded" / "versatile_diffusion_emoji.safetensors"
# Files that workflows for the real model name: the embedded model under these names, and a ControlNet with
# random weights.
STAND_INS = (
    "versatile_diffusion/vd-four-flow-v1-0-fp16.pth",
    "vae/vae-ft-mse-840000-ema-pruned.safetensors",
    "text_encoders/clip-vit-large-patch14.safetensors",
)
CONTROLNET = "controlnet/control_v11p_sd15_canny_fp16.safetensors"
# where screenshots are kept to be looked at
SHOTS = Path(os.environ.get("VD_SHOTS", "")) if os.environ.get("VD_SHOTS") else None


@pytest.fixture(scope="module")
def stocked(server):
    """The server with the models that the workflows of the real model name."""
    for name in STAND_INS:
        path = server.base / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(EMBEDDED)
    write_assets(server.base / "models", server.base / "input")
    shutil.copy(ROOT / "workflows" / "input" / "rocket-3d.png", server.base / "input" / "example.png")
    shutil.copy(
        server.base / "models" / "controlnet" / "control_lora.safetensors",
        server.base / "models" / CONTROLNET,
    )
    yield server
    for name in (*STAND_INS, CONTROLNET):
        (server.base / "models" / name).unlink()


def prompt_of(name: str) -> dict:
    """The API twin; few and small pictures where the workflow is made for the real model."""
    prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        for side in ("width", "height"):
            if node["inputs"].get(side) == 512:
                node["inputs"][side] = 64
    return prompt


@pytest.fixture(scope="module")
def fresh_server(checkout, tmp_path_factory):
    """A server whose folders of inputs and models are empty, as a newcomer's are."""
    with started(checkout, tmp_path_factory.mktemp("fresh"), []) as running:
        yield running


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_newcomers_first_click_succeeds(fresh_server, name):
    check(fresh_server.queue(prompt_of(name)))


@pytest.mark.parametrize("name", WITH_STAND_INS)
def test_workflows_of_the_real_model_run_with_its_files(stocked, name):
    check(stocked.queue(prompt_of(name)))


def check(result) -> None:
    """Check that a job succeeded and gave pictures or texts."""
    assert result.status == "success", result.sentence
    assert any(ui.get("images") or ui.get("text") for ui in result.outputs.values())


def test_an_absent_file_is_named_with_its_folder_and_address(fresh_server):
    result = fresh_server.queue(prompt_of("real-text-to-image"))
    assert "vd-four-flow-v1-0-fp16.pth" in result.sentence and "huggingface.co/shi-labs" in result.sentence
    assert "models/versatile_diffusion" in result.sentence


def page(server, shots: Path, mode: str, rendering: str, names: list[str]) -> dict[str, dict]:
    """Load workflow files in the page; see page.mjs. Skips where the page does not have that rendering."""
    files = [str(CANVASES[name]) for name in names]
    command = [
        "node",
        str(Path(__file__).with_name("page.mjs")),
        server.client.url,
        str(shots),
        mode,
        rendering,
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 60 * len(files))
    assert not done.returncode, done.stderr[-2000:]
    reports = {
        re.sub(r"^\d\d-", "", report["workflow"]): report
        for report in map(json.loads, done.stdout.splitlines())
    }
    if rendering == "vue" and not any(report["vue"] for report in reports.values()):
        pytest.skip("this page draws its nodes on the canvas only")
    return reports


def overlapping(nodes: list[dict]) -> list[tuple[str, str]]:
    """Find pairs of nodes, with their titles, that cover one another."""
    pairs = []
    for number, one in enumerate(nodes):
        left, top, right, bottom = one["box"]
        for other in nodes[:number]:
            if (
                left < other["box"][2]
                and other["box"][0] < right
                and top < other["box"][3]
                and other["box"][1] < bottom
            ):
                pairs.append((other["title"], one["title"]))
    return pairs


@pytest.fixture(scope="module")
def shots(browser, tmp_path_factory):
    """Where screenshots go."""
    return SHOTS or tmp_path_factory.mktemp("shots")


@pytest.mark.browser
@pytest.mark.parametrize("rendering", ["classic", "vue"])
def test_the_page_loads_and_runs_every_workflow(fresh_server, shots, rendering):
    folder = shots / rendering
    folder.mkdir(exist_ok=True)
    reports = page(fresh_server, folder, "queue", rendering, AT_ONCE)
    assert list(reports) == AT_ONCE
    for name, report in reports.items():
        twin = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
        assert not (report["missing"] or report["errored"] or report["toasts"] or report["dialog"]), (
            name,
            report,
        )
        assert report["status"] == "success", (name, report)
        assert not overlapping(report["before"]), (name, overlapping(report["before"]))
        assert not overlapping(report["after"]), (name, overlapping(report["after"]))
        assert (folder / f"{CANVASES[name].stem}.png").stat().st_size > 20_000
        for node_id, node in twin.items():
            made = report["api"][node_id]
            assert (made["class_type"], made["_meta"]["title"]) == (
                node["class_type"],
                node["_meta"]["title"],
            )
            assert {key: made["inputs"][key] for key in node["inputs"]} == node["inputs"], name


@pytest.mark.browser
@pytest.mark.parametrize("rendering", ["classic", "vue"])
def test_workflows_for_files_of_others_open_without_overlap(fresh_server, shots, rendering):
    """Those that cannot run here: the real files are missing."""
    for name, report in page(fresh_server, shots, "open", rendering, NEEDING_FILES).items():
        assert not report["missing"] and not overlapping(report["before"]), (
            name,
            report["missing"],
            overlapping(report["before"]),
        )


@pytest.mark.browser
def test_the_page_names_missing_models_with_folder_and_address(fresh_server, shots):
    """In a dialog or, since 2026, in a panel; only those that are chosen: a workflow of the embedded model
    asks for nothing."""
    reports = page(fresh_server, shots, "look", "classic", ["ksampler-pfd-openpose", "text-to-image"])
    shown = reports["ksampler-pfd-openpose"]["dialog"] + reports["ksampler-pfd-openpose"]["text"]
    for folder, name in (
        ("diffusion_models", "Deliberate-v2-0.safetensors"),
        ("vae", "vae-ft-mse-840000-ema-pruned.safetensors"),
        ("seecoder", "seecoder-v1-0.safetensors"),
        ("controlnet", "control_v11p_sd15_openpose_fp16.safetensors"),
    ):
        assert folder in shown and name in shown
    assert not reports["text-to-image"]["dialog"] and "View details" not in reports["text-to-image"]["text"]
