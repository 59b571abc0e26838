"""What a real server holds in memory, and how soon it stops when it is told to."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter

import graph
import pytest
from assets import write_assets
from graph import Node, empty_text, image_model, ksampler, node, picture, prompt_of, seen, sentence
from safetensors import safe_open

from runner.pack import ROOT
from vd_core.embedded import MODEL

pytestmark = pytest.mark.comfyui

PROMPTS, WARM = 60, 12  # jobs in a row; from the WARM-th on memory must stay as it is
GROWTH = 24e6  # bytes that it may still grow: less than one flow of the embedded model for each job, by far


@pytest.fixture(scope="module", autouse=True)
def pictures(server):
    """Input files."""
    write_assets(server.base / "models", server.base / "input")


@pytest.fixture
def freed(server):
    """A server that holds nothing."""
    free(server)


def free(server) -> dict:
    """Asks the server to let go of everything -> what it then holds. It does so between two jobs, on a busy
    machine after one that came later."""
    server.client.post("/free", {"unload_models": True, "free_memory": True})
    deadline = time.monotonic() + 30
    while True:
        time.sleep(1.5)
        held = memory(server, 0)
        if not (held["loaded"] or held["flows"]) or time.monotonic() > deadline:
            return held


def memory(server, after) -> dict:
    """What the server holds after that output."""
    return run(server, node("VDLive_Memory", after=after))


def run(server, *outputs: Node) -> dict:
    """Runs a graph -> what VDLive_Memory says in it, if it is there."""
    result = server.queue(prompt_of(*outputs))
    assert result.status == "success", result.sentence
    return next((json.loads(text) for text in result.texts if text.startswith("{")), {})


def parameters(*prefixes: str) -> int:
    """How many numbers the embedded model has in those parts."""
    with safe_open(MODEL, "pt") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if key.startswith(prefixes)]  # noqa: SIM118  not a dict
    return sum(count(shape) for shape in shapes)


def count(shape: list[int]) -> int:
    """The size of a tensor."""
    size = 1
    for length in shape:
        size *= length
    return size


def variation(seed: int = 1, steps: int = 2, batch: int = 1) -> Node:
    """The picture that an image variation makes."""
    model = image_model("image")
    latent = ksampler(model[0], seen(graph.PICTURE), graph.empty(batch), seed=seed, steps=steps)
    return node("VAEDecode", samples=latent, vae=model[1])


def test_image_variation_loads_only_what_it_needs(server, freed):
    held = memory(server, variation())
    assert held["loaded"] == {
        "FlowModel": parameters("diffuser.time_embed.", "diffuser.data.image.", "diffuser.context.image."),
        "CLIPVisionModelProjection": parameters("clip_vision."),
        "AutoencoderKL": parameters("image_vae."),
    }


def test_caption_loads_only_what_it_needs(server, freed):
    held = memory(
        server,
        node(
            "VD_TextDecode",
            **sentence(ksampler(graph.TEXT[0], graph.ROCKET, empty_text())).inputs["source"].inputs,
        ),
    )
    assert set(held["loaded"]) == {"FlowModel", "CLIPVisionModelProjection", "Optimus"}
    assert held["loaded"]["FlowModel"] == parameters(
        "diffuser.time_embed.", "diffuser.data.text.", "diffuser.context."
    )


def test_free_returns_the_memory(server):
    assert memory(server, variation())["flows"] > 0
    held = free(server)
    assert held["loaded"] == {}
    assert held["flows"] == 0


def test_memory_stays_flat(server, freed, capsys):
    """Every job has another flow than the one before, so ComfyUI drops its nodes' results and the loaders run
    again."""
    resident = {}
    for number in range(1, PROMPTS + 1):
        caption = ksampler(graph.TEXT[0], graph.ROCKET, empty_text(1), seed=number, steps=2)
        drawing = ksampler(graph.IMAGE[0], graph.APPLE, graph.empty(), seed=number, steps=2)
        outputs = [sentence(caption) if number % 2 else picture(drawing)]
        measured = number in (*range(WARM - 3, WARM + 1), *range(PROMPTS - 3, PROMPTS + 1))
        held = run(server, *outputs, *[node("VDLive_Memory", after=0)] * measured)
        if measured:
            resident[number] = held["resident"]
    grown = max(resident[number] for number in resident if number > WARM) - max(
        resident[number] for number in resident if number <= WARM
    )
    with capsys.disabled():
        print(
            f"\nresident after {WARM} jobs {resident[WARM] / 1e6:.0f} MB, after {PROMPTS} "
            f"{resident[PROMPTS] / 1e6:.0f} MB"
        )
    assert grown < GROWTH


BIG = {"width": 256, "height": 256}
MULTI_FLOW = {
    "seed": 3,
    "steps": 40,
    "cfg": 2.0,
    "sampler": "ddim",
    "eta": 0.0,
    "fidelity": 0.0,
    "noise": "per sample",
}
READING = {"seed": 3, "temperature": 10.0, "top_k": 0, "top_p": 1.0, "remove_duplicates": False}
LONG_JOBS = {
    "KSampler": picture(ksampler(graph.IMAGE[0], graph.APPLE, graph.empty(2, **BIG), steps=40, seed=3)),
    "VD_Sampler": picture(
        node(
            "VD_Sampler",
            model=graph.IMAGE[0],
            positive=graph.APPLE[0],
            negative=graph.APPLE[1],
            latent_image=graph.empty(2, **BIG),
            **MULTI_FLOW,
        )
    ),
    "VD_TextDecode": node(
        "PreviewAny",
        source=node("VD_TextDecode", text_vae=graph.TEXT[1], samples=empty_text(2048), **READING),
    ),
}


@pytest.mark.parametrize("name", list(LONG_JOBS))
def test_an_interrupt_is_honoured_within_one_step(server, name):
    prompt = prompt_of(LONG_JOBS[name])
    working = next(key for key, entry in prompt.items() if entry["class_type"] == name)
    seen_steps, told = [], []

    def interrupt(event: dict) -> None:
        if event["type"] == "progress" and event["data"]["node"] == working:
            seen_steps.append(event["data"]["value"])
            if len(seen_steps) == 2:
                server.client.post("/interrupt", {})
                told.append(seen_steps[-1])

    result = server.queue(prompt, interrupt)
    assert result.status == "error"
    assert result.error.get("node_id") == working and "exception_type" not in result.error, result.error
    assert seen_steps[-1] <= told[0] + 1
    # it goes on with the next job
    assert server.queue(prompt_of(graph.node("PreviewAny", source=1))).status == "success"


def test_the_log_has_no_word_against_the_pack(server):
    log = server.log.read_text(encoding="utf-8", errors="replace")
    times = re.findall(r"([\d.]+) seconds: .*?([^/\\\n]+)$", log, re.M)
    imported = {name: float(seconds) for seconds, name in times}
    waited = max(1, os.getloadavg()[0] / os.cpu_count())  # seconds of the clock: others run too
    assert imported[ROOT.name] < 0.5 * waited, imported
    own = [line for line in log.splitlines() if str(ROOT) in line or f"custom_nodes/{ROOT.name}/" in line]
    complaints = Counter(
        line for line in own if re.search("warn|error", line, re.I) and "Traceback" not in line
    )
    assert not complaints, complaints
