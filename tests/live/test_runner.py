"""`run_workflow.py --server` and `--comfyui` on the real ComfyUI, with its own nodes and with this pack's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner import graph, launcher
from runner.pack import ROOT
from runner.prepare import find_twin

pytestmark = pytest.mark.comfyui


def node(kind, title, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def empty(**changes):
    return node(
        "EmptyImage", "Empty", **{"width": 32, "height": 16, "batch_size": 1, "color": 0xFF0000, **changes}
    )


def red_picture(**changes):
    return {"1": empty(**changes), "2": node("SaveImage", "Save", images=["1", 0], filename_prefix="sub/red")}


def slow(steps=10_000):
    """KSampler with our embedded model: a job of hours, with progress."""
    flow = json.loads(
        (ROOT / "workflows" / "api" / "ksampler-text-to-image.json").read_text(encoding="utf-8")
    )
    flow["5"]["inputs"]["steps"], flow["4"]["inputs"]["batch_size"] = steps, 1
    return flow


@pytest.fixture
def run(tmp_path):
    """Starts run_workflow.py in a folder of its own -> the process."""

    def go(flow, *options, **environment):
        (tmp_path / "flow.json").write_text(json.dumps(flow), encoding="utf-8")
        return subprocess.Popen(
            [
                sys.executable,
                ROOT / "run_workflow.py",
                flow if isinstance(flow, Path) else "flow.json",
                *options,
            ],
            text=True,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            # shells start what runs in the background deaf to Ctrl+C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return go


def told(process):
    """(exit status, stdout, the last line of stderr) when it has ended."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, (err.splitlines() or [""])[-1]


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_canvas_files_are_converted_as_the_page_does_it(server):
    info = server.client.get("/object_info")
    catalogue = graph.Catalogue(
        {name: about["input"] for name, about in info.items()}, "is a {name}, which is not there."
    )
    canvases = [path for path in sorted((ROOT / "workflows").rglob("*.json")) if path.parent.name != "api"]
    twins = {path: twin for path in canvases if (twin := find_twin(path))}
    assert len(twins) > 40
    for path, twin in twins.items():
        canvas, prompt = (json.loads(file.read_text(encoding="utf-8")) for file in (path, twin))
        assert graph.convert_canvas(canvas, catalogue, "its twin") == prompt, twin.name


# --server


def test_pictures_come_back_and_cached_ones_too(server, run, tmp_path):
    for number in (1, 2):
        assert told(run(red_picture(), "--server", server.client.url))[:2] == (
            0,
            f"output/sub/red_0000{number}_.png\n",
        )
        with Image.open(tmp_path / f"output/sub/red_0000{number}_.png") as picture:
            assert picture.size == (32, 16) and picture.getpixel((0, 0)) == (255, 0, 0)
            assert json.loads(picture.text["prompt"])["1"]["inputs"]["color"] == 0xFF0000


def test_uploads_set_and_texts(server, run, tmp_path):
    Image.new("RGB", (24, 8), (0, 64, 128)).save(tmp_path / "ünlike any other.png")
    flow = {
        "1": node("LoadImage", "Picture", image="ünlike any other.png"),
        "2": node("ImageInvert", "Invert", image=["1", 0]),
        "3": node("SaveImage", "Save", images=["2", 0], filename_prefix="inverted"),
        "4": node("PrimitiveString", "Words", value="nothing"),
        "5": node("PreviewAny", "Show words", source=["4", 0]),
    }
    status, out, _ = told(run(flow, "--server", server.client.url, "--set", "Words.value=schöne\ngrüße"))
    assert status == 0 and {
        "output/inverted_00001_.png",
        "schöne",
        "grüße",
        "output/Show-words_00001.txt",
    } == set(out.split("\n")) - {""}
    with Image.open(tmp_path / "output/inverted_00001_.png") as picture:
        np.testing.assert_allclose(np.asarray(picture)[0, 0], [255, 191, 127], atol=1)
    assert (server.base / "input" / "ünlike any other.png").is_file()


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (red_picture(width=0), "Empty (node 1), input width: Value 0 smaller than min of 1."),
        (
            {"1": node("LoadImage", "Picture", image="no.png"), "2": red_picture()["2"]},
            "Invalid image file: no.png",
        ),
        (
            {"2": node("SaveImage", "Save", filename_prefix="x")},
            "Save (node 2), input images: Required input is missing.",
        ),
        ({"1": empty()}, "ComfyUI does not take this workflow: Prompt has no outputs."),
        (
            {"1": node("Nonsense", "Odd"), "2": red_picture()["2"]},
            "Odd (node 1) is of the class Nonsense, which the ComfyUI at",
        ),
        (
            {**red_picture(), "3": node("PreviewImage", "Show")},
            "Show (node 3), input images: Required input is missing.",
        ),
    ],
)
def test_what_the_server_refuses(server, run, flow, sentence):
    status, out, said = told(run(flow, "--server", server.client.url))
    assert (status, out) == (2, "") and sentence in said


def test_an_error_names_the_node(server, run, tmp_path):
    (tmp_path / "in.png").write_text("no picture")
    flow = {"1": node("LoadImage", "Picture", image="in.png"), "2": red_picture()["2"]}
    status, out, said = told(run(flow, "--server", server.client.url))
    assert (status, out) == (4, "") and said.startswith(
        "Picture: PIL.UnidentifiedImageError: cannot identify image file"
    )


def test_core_nodes_here_give_what_core_gives(server, run, tmp_path):
    """Frames and their sizes, numbers given as text, and what is filled in in the names of files."""
    frames = [Image.new("RGB", (24, 16), color) for color in ((255, 0, 0), (0, 255, 0), (0, 64, 128))]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], lossless=True)
    name = "%date:yyyy-M%/%Picture.image%-%width%x%height%-%batch_num%-%year%"
    flow = {
        "1": node("LoadImage", "Picture", image="in.webp"),
        "2": node("ImageScaleBy", "Half", image=["1", 0], upscale_method="nearest-exact", scale_by="0.5"),
        "3": node(
            "ImageScale",
            "Wide",
            image=["2", 0],
            upscale_method="bicubic",
            width=20,
            height=0,
            crop="disabled",
        ),
        "4": node("SaveImage", "Save", images=["3", 0], filename_prefix=name),
    }
    here = told(run(flow, "--output", "here"))
    there = told(run(flow, "--server", server.client.url, "--output", "there"))
    assert here[0] == there[0] == 0, (here, there)
    paths = [Path(line) for line in here[1].split()]
    assert len(paths) == 3 and [str(path) for path in paths] == there[1].replace("there/", "here/").split()
    for path in paths:
        with (
            Image.open(tmp_path / path) as ours,
            Image.open(tmp_path / "there" / path.relative_to("here")) as core,
        ):
            assert ours.size == (20, 13) and ours.tobytes() == core.tobytes()


def test_ctrl_c_ends_the_job_on_the_server(server, run):
    process = run(slow(), "--server", server.client.url)
    wait_until(lambda: server.client.get("/queue")["queue_running"])
    waiting = run(slow(), "--server", server.client.url)
    wait_until(lambda: server.client.get("/queue")["queue_pending"])
    waiting.send_signal(signal.SIGINT)
    assert told(waiting)[0] == 130
    queue = server.client.get("/queue")
    assert len(queue["queue_running"]) == 1 and not queue["queue_pending"], "only the job that waited"
    process.send_signal(signal.SIGINT)
    assert told(process)[0] == 130
    wait_until(lambda: not server.client.get("/queue")["queue_running"])


def test_results_of_the_fixture(server):
    result = server.queue(slow(steps=3))
    assert result.status == "success" and result.sentence is None and len(result.outputs["7"]["images"]) == 1
    assert result.progress[-1] == ("5", 3, 3) and len(result.previews) == 3
    assert server.queue(red_picture(width=0)).validation["node_errors"].keys() == {"1"}


# --comfyui


@pytest.fixture(scope="module")
def device(checkout):
    """The arguments that this machine needs."""
    return launcher.read_arguments(checkout)


@pytest.fixture
def started(run, checkout, device, tmp_path):
    """Starts run_workflow.py --comfyui with a base directory in which the owner has a picture."""
    for name in ("custom_nodes", "models", "input", "output"):
        (tmp_path / "own" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / "own/input/blue.png")
    given = f"--base-directory '{tmp_path / 'own'}' --disable-api-nodes {' '.join(device)}"
    more = {"COMFYUI_ARGS": given, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    return lambda flow, **others: run(flow, "--comfyui", checkout, **{**more, **others})


def left(tmp_path):
    """What a run leaves behind in the temporary folder and in the owner's output folder."""
    return [*tmp_path.glob("run_workflow_*"), *(tmp_path / "own/output").iterdir()]


def test_a_checkout_is_started_and_stopped(started, tmp_path):
    Image.new("RGB", (8, 8), (0, 255, 0)).save(tmp_path / "green.png")
    flow = {
        "1": node("LoadImage", "His", image="blue.png"),
        "2": node("LoadImage", "Mine", image="green.png"),
        "3": node(
            "ImageBlend", "Blend", image1=["1", 0], image2=["2", 0], blend_factor=0.5, blend_mode="normal"
        ),
        "4": node("SaveImage", "Save", images=["3", 0], filename_prefix="blend"),
        **{f"1{key}": {**entry, "inputs": move(entry["inputs"])} for key, entry in slow(steps=1).items()},
    }
    status, out, said = told(started(flow))
    assert status == 0, said
    assert set(out.split()) == {"output/blend_00001_.png", "output/ksampler-text-to-image_00001_.png"}
    with Image.open(tmp_path / "output/blend_00001_.png") as picture:
        assert picture.getpixel((0, 0)) == (0, 127, 127)
    assert not left(tmp_path) and [path.name for path in (tmp_path / "own/input").glob("*.png")] == [
        "blue.png"
    ]


def move(inputs):
    """Links to nodes whose ids have got a 1 in front."""
    return {
        name: [f"1{value[0]}", value[1]] if isinstance(value, list) else value
        for name, value in inputs.items()
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_checkout_is_stopped_when_we_are(started, tmp_path, number):
    process = started(slow())
    while "KSampler" not in process.stderr.readline():
        assert process.poll() is None
    (log,) = tmp_path.glob("run_workflow_*/server.log")
    comfyui = children(process.pid)
    assert comfyui and log.is_file()
    process.send_signal(number)
    status = told(process)[0]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in comfyui))
    if number != signal.SIGKILL:
        assert status == 128 + number and not left(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_checkout_that_dies_is_missed(started, tmp_path):
    process = started(slow())
    while "KSampler" not in process.stderr.readline():
        assert process.poll() is None
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    status, _, said = told(process)
    assert (status, said) == (3, "ComfyUI ended with status -9; the end of its log is above.") and not left(
        tmp_path
    )


def test_a_checkout_that_does_not_start_shows_its_log(started, tmp_path):
    process = started(red_picture(), COMFYUI_ARGS="--no-such-option")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3 and "unrecognized arguments: --no-such-option" in err
    assert err.endswith("ComfyUI ended with status 2; the end of its log is above.\n") and not left(tmp_path)


def children(pid):
    """The processes that a process has started."""
    return [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
